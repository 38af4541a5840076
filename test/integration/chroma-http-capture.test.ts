import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, request as httpRequest, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { chromaFactsOf, placedCollections } from '../../src/components/chroma/facts.ts';
import { createChromaComponent } from '../../src/components/chroma/index.ts';
import { detectServer } from '../../src/components/chroma/http/detect.ts';
import { openExport } from '../../src/components/chroma/http/export-format.ts';
import { prepareLogicalCapture } from '../../src/components/chroma/http/capture.ts';
import type { ChromaEndpoint } from '../../src/components/chroma/http/transport.ts';
import { freePort } from '../../src/demo/servers/common.ts';
import { startChroma, type PrivateChroma } from '../../src/demo/servers/chroma.ts';
import {
  ConfigurationError,
  InterruptedError,
  ServiceUnavailableError,
  TarsError,
} from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { ComponentProbe } from '../../src/ports/component.ts';
import type { OperationContext } from '../../src/ports/context.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { counted } from '../fixtures/campaign.ts';
import { chromaOverHttp } from '../fixtures/chroma-component.ts';
import {
  createCollection,
  databasePath,
  defaultPath,
  manifestOf,
  RawChroma,
  seededRandom,
} from '../fixtures/chroma-http.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
let root: string;
let server: PrivateChroma;
let raw: RawChroma;
let snapshots = 0;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-chroma-capture-'));
  server = await startChroma(join(root, 'server'), ctx);
  raw = new RawChroma(server.url);
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

interface Captured {
  readonly manifest: ComponentManifest;
  readonly directory: string;
}

async function capture(endpoint: ChromaEndpoint, context: OperationContext = ctx): Promise<Captured> {
  const directory = join(root, `snapshot-${snapshots++}`);
  const sink = createDirectorySink(directory, { encrypted: true });
  await using prepared = await prepareLogicalCapture({ name: 'chroma', ...endpoint }, context);
  return { manifest: manifestOf('chroma', await prepared.capture(sink, context), sink), directory };
}

/** The ids in a collection's export, which must all have a vector of that dimension. */
async function exportedIds(
  { manifest, directory }: Captured,
  name: string,
  dimension: number,
): Promise<Set<string>> {
  const source = createDirectorySource(directory);
  const ids = new Set<string>();
  for (const { path } of manifest.artifacts) {
    const { header, records } = await openExport(source.open(path, ctx.signal), path);
    for await (const { id, vector } of records) {
      if (header.name !== name) continue;
      assert.equal(vector?.length, dimension, id);
      assert.equal(ids.has(id), false, `${id} twice`);
      ids.add(id);
    }
  }
  return ids;
}

async function scratchCollection(t: TestContext, name: string, extra = ''): Promise<string> {
  const path = await createCollection(raw, defaultPath, `{"name":"${name}"${extra}}`);
  t.after(() => raw.text('DELETE', `${defaultPath}/collections/${name}`).catch(() => undefined));
  return path;
}

const vectors = (count: number, dimension: number, random: () => number): number[][] =>
  Array.from({ length: count }, () => Array.from({ length: dimension }, () => random()));

test('no record that exists throughout is missed under concurrent adds, updates and deletes', async (t) => {
  const runs = counted(1, 20);
  const records = 6000;
  for (let seed = 1; seed <= runs; seed++) {
    const random = seededRandom(seed);
    const name = `busy-${seed}`;
    const path = await scratchCollection(t, name);
    for (let from = 0; from < records; from += 1000) {
      const ids = Array.from({ length: 1000 }, (_, i) => `r${from + i}`);
      await raw.json('POST', `${path}/add`, { ids, embeddings: vectors(1000, 4, random) });
    }
    // Every third record may go or change at any time; the others stay for the whole capture.
    const stop = new AbortController();
    let changes = 0;
    const writer = (async () => {
      for (let round = 0; !stop.signal.aborted; round++) {
        const victims = Array.from({ length: 20 }, () => `r${Math.floor((random() * records) / 3) * 3}`);
        await raw.json('POST', `${path}/delete`, { ids: victims });
        const ids = Array.from({ length: 10 }, (_, i) => `new-${round}-${i}`);
        await raw.json('POST', `${path}/add`, { ids, embeddings: vectors(10, 4, random) });
        await raw.json('POST', `${path}/upsert`, {
          ids: [`r${round * 3}`],
          embeddings: vectors(1, 4, random),
        });
        changes++;
      }
    })();
    try {
      const captured = await capture({ url: server.url });
      const before = changes;
      const found = await exportedIds(captured, name, 4);
      for (let i = 0; i < records; i++) {
        if (i % 3 !== 0) assert.ok(found.has(`r${i}`), `seed ${seed}: r${i} is missing`);
      }
      assert.ok(before > 0, `seed ${seed}: the writer never ran`);
      const [placed] = [...placedCollections(chromaFactsOf(captured.manifest))].filter(
        ({ collection }) => collection.name === name,
      );
      assert.equal(placed?.collection.recordCount, found.size, `seed ${seed}`);
      assert.equal(placed.collection.vectorCount, found.size, `seed ${seed}`);
    } finally {
      stop.abort();
      await writer;
    }
  }
});

test('a collection deleted while it is captured is left out, and the snapshot still restores', async (t) => {
  const random = seededRandom(7);
  const path = await scratchCollection(t, 'vanishing');
  await raw.json('POST', `${path}/add`, { ids: ['a', 'b'], embeddings: vectors(2, 3, random) });
  let deleted = false;
  await using faulty = await startProxy(server.url, async (_headers, url): Promise<Fault> => {
    if (deleted || !url.endsWith('/get')) return 'pass';
    deleted = true;
    await raw.text('DELETE', `${defaultPath}/collections/vanishing`);
    return 'pass';
  });
  const { manifest, directory } = await capture({ url: faulty.url });
  assert.deepEqual([...placedCollections(chromaFactsOf(manifest))], []);
  const planned = await chromaOverHttp(server.url).planRestore(
    manifest,
    { restoreConfig: false, restoreId: 'gone' },
    ctx,
    noArtifacts,
  );
  const staged = await planned.stage(createDirectorySource(directory), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
});

test('a record whose vector Chroma lost does not cost the others, and is not passed on', async (t) => {
  const random = seededRandom(11);
  const path = await scratchCollection(t, 'damaged');
  const ids = Array.from({ length: 130 }, (_, i) => `r${i}`);
  await raw.json('POST', `${path}/add`, { ids, embeddings: vectors(130, 3, random) });
  await raw.json('GET', `${path}/count`);
  // Chroma 1.0 takes a record without a vector (answering 500) and cannot read a page with it any more.
  await addWithoutVector(path);
  const whole = await fetch(`${server.url}/api/v2${path}/get`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"include":["embeddings"]}',
  });
  assert.equal(whole.status, 500, 'the server reads the damaged collection after all');
  const warnings: string[] = [];
  const captured = await capture(
    { url: server.url },
    { ...ctx, log: { ...ctx.log, warn: (m) => warnings.push(m) } },
  );
  assert.match(warnings.join('\n'), /default_database\/damaged has 1 record whose vectors Chroma has lost/);
  const [placed] = [...placedCollections(chromaFactsOf(captured.manifest))];
  assert.equal(placed?.collection.recordCount, 130);
  const artifact = captured.manifest.artifacts[0];
  assert.match(await readFile(join(captured.directory, artifact?.path ?? ''), 'utf8'), /"kept text"/);
  const planned = await chromaOverHttp(server.url).planRestore(
    captured.manifest,
    { restoreConfig: false, restoreId: 'sane' },
    ctx,
    noArtifacts,
  );
  const staged = await planned.stage(createDirectorySource(captured.directory), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.discard(ctx);
});

async function addWithoutVector(path: string): Promise<void> {
  const answer = await fetch(`${server.url}/api/v2${path}/add`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"ids":["no vector"],"embeddings":null,"documents":["kept text"]}',
  });
  assert.equal(answer.status, 500);
}

test('a collection the server cannot read at all fails the capture and names the way out', async (t) => {
  const path = await scratchCollection(t, 'unreadable');
  await raw.json('POST', `${path}/add`, { ids: ['a'], embeddings: [[1, 2]] });
  // Before the first read, the lost vector keeps Chroma from replaying its log.
  await addWithoutVector(path);
  await assert.rejects(capture({ url: server.url }), (error) => {
    assert.ok(error instanceof TarsError);
    assert.equal(error.code, 'capture-failed');
    assert.match(error.message, /default_database\/unreadable/);
    assert.match(error.hint ?? '', /physical capture/);
    return true;
  });
});

test('a collection the server cannot read costs itself: it is named, the others are captured', async (t) => {
  const unreadable = await scratchCollection(t, 'unreadable');
  await raw.json('POST', `${unreadable}/add`, { ids: ['a'], embeddings: [[1, 2]] });
  await addWithoutVector(unreadable);
  const fine = await scratchCollection(t, 'fine');
  await raw.json('POST', `${fine}/add`, { ids: ['a', 'b'], embeddings: [[1], [2]] });
  const sink = createDirectorySink(join(root, `snapshot-${snapshots++}`), { encrypted: true });
  await using prepared = await prepareLogicalCapture({ name: 'chroma', url: server.url }, ctx);
  const report = await prepared.capture(sink, ctx);
  assert.deepEqual(
    report.incomplete?.named.map(({ path }) => path),
    ['default_tenant/default_database/unreadable'],
  );
  const captured = chromaFactsOf(manifestOf('chroma', report, sink));
  assert.ok([...placedCollections(captured)].some(({ collection }) => collection.name === 'fine'));
});

test('a record that changes while it is read is read again until two readings agree', async (t) => {
  const path = await scratchCollection(t, 'changing');
  await raw.json('POST', `${path}/add`, { ids: ['a', 'b'], embeddings: [[0], [7]], documents: ['0', 'b'] });
  let changes = 0;
  let version = 0;
  await using busy = await startProxy(server.url, async (_headers, url): Promise<Fault> => {
    if (!url.endsWith('/get') || version >= changes) return 'pass';
    version++;
    await raw.json('POST', `${path}/upsert`, {
      ids: ['a'],
      embeddings: [[version]],
      documents: [String(version)],
    });
    return 'pass';
  });
  const captureBusy = async () => {
    const sink = createDirectorySink(join(root, `snapshot-${snapshots++}`), { encrypted: true });
    await using prepared = await prepareLogicalCapture({ name: 'chroma', url: busy.url }, ctx);
    return (await prepared.capture(sink, ctx)).incomplete;
  };
  changes = 6;
  assert.equal(await captureBusy(), undefined);
  assert.equal(version, changes);
  changes = 1000;
  const incomplete = await captureBusy();
  assert.match(incomplete?.named[0]?.reason ?? '', /^1 record changed with every reading/);
});

test('large documents are fetched in pages bounded by bytes', async (t) => {
  const path = await scratchCollection(t, 'large');
  // Together they are more than a page may have.
  const documentBytes = 11 << 20;
  for (const id of ['0', '1', '2']) {
    const documents = [id.repeat(documentBytes)];
    await raw.json('POST', `${path}/add`, { ids: [id], embeddings: [[1, 2]], documents });
  }
  const captured = await capture({ url: server.url });
  assert.equal((await exportedIds(captured, 'large', 2)).size, 3);
});

test('a server that is down is a ServiceUnavailableError', async () => {
  await assert.rejects(
    prepareLogicalCapture({ name: 'chroma', url: `http://127.0.0.1:${await freePort()}` }, ctx),
    (error) =>
      error instanceof ServiceUnavailableError &&
      /does not answer: nothing listens there \(ECONNREFUSED\)/.test(error.message),
  );
});

test('an unknown tenant is a configuration error, not an empty snapshot', async () => {
  await assert.rejects(
    prepareLogicalCapture({ name: 'chroma', url: server.url, tenants: ['no such tenant'] }, ctx),
    (error) =>
      error instanceof TarsError && error.code === 'configuration' && /no such tenant/.test(error.message),
  );
});

test('the plan warns that tenants other than the default are left out, until they are named', async () => {
  await raw.json('POST', '/tenants', { name: 'elsewhere' });
  await raw.json('POST', '/tenants/elsewhere/databases', { name: 'own' });
  await createCollection(raw, databasePath('elsewhere', 'own'), '{"name":"unseen"}');
  const probed = (tenants?: readonly string[]): Promise<ComponentProbe> =>
    createChromaComponent({
      name: 'chroma',
      service: undefined,
      url: server.url,
      headers: {},
      path: undefined,
      scratchDir: root,
      ...(tenants === undefined ? {} : { tenants }),
    }).probe(ctx);
  const aboutTenants = ({ warnings }: ComponentProbe): readonly string[] =>
    warnings.filter((warning) => /tenants/.test(warning));
  const [warning, ...others] = aboutTenants(await probed());
  assert.match(warning ?? '', /only default_tenant is captured; name others under tenants in tars\.yaml$/);
  assert.deepEqual(others, []);
  const named = await probed(['elsewhere']);
  assert.deepEqual(aboutTenants(named), []);
  assert.equal(named.summary, '1 collection');
});

test('an aborted capture ends with InterruptedError', async (t) => {
  const path = await scratchCollection(t, 'aborted');
  await raw.json('POST', `${path}/add`, { ids: ['a'], embeddings: [[1]] });
  const abort = new AbortController();
  await using hanging = await startProxy(server.url, (_headers, url) => {
    if (!url.endsWith('/get')) return 'pass';
    abort.abort();
    return 'hang';
  });
  await assert.rejects(capture({ url: hanging.url }, testContext(abort.signal)), InterruptedError);
});

test('transient answers of 500 and 503 and reset connections are retried', async (t) => {
  const path = await scratchCollection(t, 'flaky');
  await raw.json('POST', `${path}/add`, { ids: ['a', 'b'], embeddings: [[1], [2]] });
  const faults: Fault[] = [500, 'reset', 503, 'pass'];
  let at = 0;
  let injected = 0;
  await using flaky = await startProxy(server.url, (_headers, url) => {
    if (!/collections/.test(url)) return 'pass';
    const fault = faults[at++ % faults.length] ?? 'pass';
    if (fault !== 'pass') injected++;
    return fault;
  });
  const captured = await capture({ url: flaky.url });
  assert.ok(injected >= 6, `only ${injected} faults were injected`);
  assert.deepEqual([...(await exportedIds(captured, 'flaky', 1))].sort(), ['a', 'b']);
});

test('headers reach the server with every request, and no error repeats them', async (t) => {
  const path = await scratchCollection(t, 'guarded');
  await raw.json('POST', `${path}/add`, { ids: ['a'], embeddings: [[1]] });
  const secret = 'tok-4f9a1c77e2';
  let refused = 0;
  await using guarded = await startProxy(server.url, (headers) => {
    if (headers['x-chroma-token'] === secret) return 'pass';
    refused++;
    return 401;
  });
  const captured = await capture({ url: guarded.url, headers: { 'X-Chroma-Token': secret } });
  assert.equal((await exportedIds(captured, 'guarded', 1)).size, 1);
  assert.equal(refused, 0);
  await assert.rejects(
    capture({ url: guarded.url }),
    (error) => error instanceof TarsError && error.code === 'access-denied',
  );

  // A server, proxy or library that repeats the header must not bring it into our messages.
  await using echoing = await startProxy(server.url, () => 'echo');
  const userInfo = echoing.url.replace('//', '//operator:pass-word-123@');
  for (const endpoint of [
    { url: echoing.url, headers: { authorization: `Bearer ${secret}` } },
    { url: userInfo },
    { url: server.url, headers: { 'X-Chroma-Token': `${secret}\nline` } },
    { url: `ftp://operator:pass-word-123@host` },
    { url: `http://operator:pass-word-123@127.0.0.1:${await freePort()}` },
  ]) {
    await assert.rejects(capture(endpoint), (error) => {
      const shown = inspect(error, { depth: 8 });
      for (const forbidden of [
        secret,
        'pass-word-123',
        Buffer.from('operator:pass-word-123').toString('base64'),
      ]) {
        assert.equal(shown.includes(forbidden), false, shown);
      }
      return error instanceof TarsError;
    });
  }
  await assert.rejects(
    capture({ url: server.url, headers: { 'X-Chroma-Token': 'two\nlines' } }),
    ConfigurationError,
  );
});

test('user and password in the url become a Basic header', async () => {
  const seen: (string | undefined)[] = [];
  await using watching = await startProxy(server.url, (headers) => {
    seen.push(headers.authorization);
    return 'pass';
  });
  await detectServer({ url: watching.url.replace('//', '//operator:p%40ss-word@') }, ctx);
  const expected = `Basic ${Buffer.from('operator:p@ss-word').toString('base64')}`;
  assert.deepEqual([...new Set(seen)], [expected]);
});

test('a path prefix and a trailing /api/v2 in the url are understood', async () => {
  await detectServer({ url: `${server.url}/api/v2/` }, ctx);
});

// No 0.5 server runs on this machine: these stubs answer as its documentation says, and only to the detection.
test('a server that speaks v1 only is refused with a word on what to do', async () => {
  await using old = await listen(
    createServer((request, response) => {
      const answers: Record<string, string> = {
        '/api/v1/heartbeat': '{"nanosecond heartbeat":1}',
        '/api/v1/version': '"0.5.3"',
      };
      const answer = answers[request.url ?? ''];
      response.statusCode = answer === undefined ? 404 : 200;
      response.end(answer ?? '{"detail":"Not Found"}');
    }),
  );
  await assert.rejects(detectServer({ url: old.url }, ctx), (error) => {
    assert.ok(error instanceof TarsError);
    assert.equal(error.code, 'unsupported-version');
    assert.match(error.message, /version 0\.5\.3 and speaks only the v1 API.*0\.5\.16 and later/);
    assert.match(error.hint ?? '', /path of its persist directory.*physical capture, or upgrade/);
    return true;
  });
});

test('something else that speaks HTTP is not taken for Chroma', async () => {
  await using other = await listen(
    createServer((_, response) => response.writeHead(404).end('nothing here')),
  );
  await assert.rejects(detectServer({ url: other.url }, ctx), ServiceUnavailableError);
  await using moved = await listen(
    createServer((_, response) => response.writeHead(302, { location: server.url }).end()),
  );
  await assert.rejects(detectServer({ url: moved.url }, ctx), ServiceUnavailableError);
});

type Fault = 'pass' | 'reset' | 'hang' | 'echo' | number;

/** A proxy before the real server that injects what networks and proxies do. */
async function startProxy(
  upstream: string,
  decide: (headers: IncomingHttpHeaders, url: string) => Fault | Promise<Fault>,
): Promise<Listening> {
  return listen(
    createServer((request, response) => {
      void (async () => {
        const fault = await decide(request.headers, request.url ?? '');
        if (fault === 'reset') return void request.socket.destroy();
        if (fault === 'hang') return;
        if (fault === 'echo') {
          const message = `bad credentials ${request.headers.authorization ?? ''}`;
          return void response.writeHead(403).end(JSON.stringify({ error: 'AuthError', message }));
        }
        if (typeof fault === 'number') {
          request.resume();
          return void response.writeHead(fault).end('{"error":"InternalError","message":"injected"}');
        }
        const { method, headers, url } = request;
        const forward = httpRequest(
          `${upstream}${url ?? ''}`,
          { ...(method === undefined ? {} : { method }), headers },
          (answer) => {
            response.writeHead(answer.statusCode ?? 502, answer.headers);
            answer.pipe(response);
          },
        );
        forward.on('error', () => response.destroy());
        request.pipe(forward);
      })();
    }),
  );
}

interface Listening extends AsyncDisposable {
  readonly url: string;
}

async function listen(listener: Server): Promise<Listening> {
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      listener.closeAllConnections();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}
