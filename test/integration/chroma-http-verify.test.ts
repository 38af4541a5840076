import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { chromaFactsOf, type ChromaFacts } from '../../src/components/chroma/facts.ts';
import { createLike } from '../../src/components/chroma/http/collection-import.ts';
import { detectServer } from '../../src/components/chroma/http/detect.ts';
import { openExport } from '../../src/components/chroma/http/export-format.ts';
import { probeFloatSpellings } from '../../src/components/chroma/http/float-probe.ts';
import { prepareLogicalCapture } from '../../src/components/chroma/http/capture.ts';
import { verifyLive } from '../../src/components/chroma/http/verify.ts';
import { startChroma, type PrivateChroma } from '../../src/demo/servers/chroma.ts';
import { ServiceUnavailableError } from '../../src/model/errors.ts';
import { createDirectorySink, createDirectorySource } from '../fixtures/artifacts.ts';
import {
  createCollection,
  defaultPath,
  manifestOf,
  RawChroma,
  seededRandom,
} from '../fixtures/chroma-http.ts';
import { testContext } from '../fixtures/context.ts';

const seed = 31;
const recordCount = 600;
const ctx = testContext();
let root: string;
let server: PrivateChroma;
let raw: RawChroma;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-chroma-verify-'));
  server = await startChroma(join(root, 'server'), ctx);
  raw = new RawChroma(server.url);
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

/** A fresh collection with known records and the facts of its capture. */
async function captured(space: string): Promise<{ path: string; facts: ChromaFacts }> {
  await raw.text('DELETE', `${defaultPath}/collections/watched`).catch(() => undefined);
  const path = await createCollection(
    raw,
    defaultPath,
    `{"name":"watched","metadata":{"owner":"ops"},"configuration":{"hnsw":{"space":"${space}"}}}`,
  );
  const random = seededRandom(seed);
  await raw.text(
    'POST',
    `${path}/add`,
    `{"ids":[${range((i) => `"r${i}"`)}],` +
      `"embeddings":[${range(() => `[${Array.from({ length: 12 }, () => random() - 0.5).join(',')}]`)}],` +
      `"documents":[${range((i) => `"document ${i}"`)}],"metadatas":[${range((i) => `{"n":${i},"f":${i}.0}`)}]}`,
  );
  const sink = createDirectorySink(join(root, `snapshot-${path.slice(-36)}`), { encrypted: true });
  await using prepared = await prepareLogicalCapture({ name: 'chroma', url: server.url }, ctx);
  return { path, facts: chromaFactsOf(manifestOf('chroma', await prepared.capture(sink, ctx), sink)) };
}

const range = (item: (i: number) => string): string =>
  Array.from({ length: recordCount }, (_, i) => item(i)).join(',');

async function codes(facts: ChromaFacts): Promise<string[]> {
  const findings = await verifyLive({ name: 'chroma', url: server.url }, facts, ctx);
  return findings.map(({ severity, code }) => `${severity} ${code}`);
}

const damages: readonly [
  what: string,
  spaces: readonly string[],
  damage: (path: string) => Promise<unknown>,
  ...string[],
][] = [
  ['nothing', ['l2', 'ip', 'cosine'], () => Promise.resolve()],
  [
    'a deleted record',
    ['l2', 'cosine'],
    (path) => raw.json('POST', `${path}/delete`, { ids: ['r17'] }),
    'error record-count-differs',
    'error content-differs',
    'error vectors-missing',
  ],
  [
    'a record exchanged for another with its content',
    ['l2'],
    async (path) => {
      const include = ['embeddings'];
      const old = await raw.json<{ embeddings: unknown[] }>('POST', `${path}/get`, { ids: ['r17'], include });
      await raw.json('POST', `${path}/delete`, { ids: ['r17'] });
      await raw.json('POST', `${path}/add`, {
        ids: ['r-17'],
        embeddings: old.embeddings,
        documents: ['document 17'],
        metadatas: [{ n: 17 }],
      });
    },
    'error ids-differ',
    'error content-differs',
    'error vectors-differ',
  ],
  [
    'a changed document',
    ['l2'],
    (path) => raw.json('POST', `${path}/update`, { ids: ['r3'], documents: ['Document 3'] }),
    'error content-differs',
  ],
  [
    'a float that became an integer',
    ['ip'],
    (path) => raw.text('POST', `${path}/update`, '{"ids":["r3"],"metadatas":[{"f":3}]}'),
    'error content-differs',
  ],
  ...['l2', 'ip', 'cosine'].map((space): (typeof damages)[number] => [
    `one changed vector component (${space})`,
    [space],
    async (path) => {
      const request = { ids: ['r5'], include: ['embeddings'] };
      const { embeddings } = await raw.json<{ embeddings: number[][] }>('POST', `${path}/get`, request);
      const vector = embeddings[0]!;
      vector[4]! += space === 'cosine' ? 0.01 : 1e-6;
      await raw.json('POST', `${path}/update`, { ids: ['r5'], embeddings: [vector] });
    },
    'error vectors-differ',
  ]),
  [
    'two exchanged vectors (cosine)',
    ['cosine'],
    async (path) => {
      const request = { ids: ['r5', 'r6'], include: ['embeddings'] };
      const answer = await raw.json<{ ids: string[]; embeddings: number[][] }>(
        'POST',
        `${path}/get`,
        request,
      );
      await raw.json('POST', `${path}/update`, {
        ids: answer.ids,
        embeddings: [...answer.embeddings].reverse(),
      });
    },
    'error vectors-differ',
  ],
  [
    'changed metadata of the collection',
    ['l2'],
    (path) => raw.json('PUT', path, { new_metadata: { owner: 'nobody' } }),
    'error collection-metadata-differs',
  ],
  [
    'a renamed collection',
    ['l2'],
    async (path) => {
      await raw.json('PUT', path, { new_name: 'elsewhere' });
    },
    'error collection-missing',
    'warning collection-extra',
  ],
  [
    'a kept previous generation beside it',
    ['l2'],
    () => raw.json('POST', `${defaultPath}/collections`, { name: 'watched_tars_prev_r9' }),
  ],
];

for (const [what, spaces, damage, ...expected] of damages) {
  for (const space of spaces) {
    test(`live verification over ${space} sees ${what} (seed ${seed})`, async () => {
      const { path, facts } = await captured(space);
      await damage(path);
      try {
        assert.deepEqual((await codes(facts)).sort(), [...expected].sort());
      } finally {
        for (const name of ['elsewhere', 'watched_tars_prev_r9']) {
          await raw.text('DELETE', `${defaultPath}/collections/${name}`).catch(() => undefined);
        }
      }
    });
  }
}

test('live verification sees a collection remade with another distance', async () => {
  const { path, facts } = await captured('l2');
  const include = ['embeddings', 'documents', 'metadatas'];
  const all = JSON.parse(await raw.text('POST', `${path}/get`, JSON.stringify({ include }))) as Record<
    string,
    unknown
  >;
  await raw.text('DELETE', `${defaultPath}/collections/watched`);
  const remade = await createCollection(
    raw,
    defaultPath,
    '{"name":"watched","metadata":{"owner":"ops"},"configuration":{"hnsw":{"space":"ip"}}}',
  );
  await raw.json('POST', `${remade}/add`, all);
  const found = await codes(facts);
  assert.ok(found.includes('error distance-differs'), found.join());
});

test('live verification reports a collection that cannot be read, and goes on', async () => {
  const { facts } = await captured('l2');
  await raw.text('DELETE', `${defaultPath}/collections/watched`);
  const path = await createCollection(raw, defaultPath, '{"name":"watched","metadata":{"owner":"ops"}}');
  await raw.json('POST', `${path}/add`, { ids: ['a'], embeddings: [[1, 2]] });
  await fetch(`${server.url}/api/v2${path}/add`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"ids":["no vector"],"embeddings":null,"documents":["x"]}',
  });
  const found = await codes(facts);
  assert.ok(found.includes('error collection-unreadable'), found.join());
});

test('live verification of a server that is down throws', async () => {
  const { facts } = await captured('l2');
  await server.stop();
  try {
    await assert.rejects(codes(facts), ServiceUnavailableError);
  } finally {
    await server.start();
  }
});

test('a schema the server does not know falls back to the configuration', async () => {
  const { client } = await detectServer({ url: server.url }, ctx);
  const header = {
    format: 1,
    tenant: 'default_tenant',
    database: 'default_database',
    id: '0',
    name: 'with-schema',
    metadata: null,
    configuration_json: '{"hnsw":{"space":"cosine","max_neighbors":24},"embedding_function":null}',
    schema:
      '{"keys":{"#embedding":{"float_list":{"vector_index":{"enabled":true,"config":{"space":"cosine"}}}}}}',
    dimension: null,
    space: 'cosine' as const,
  };
  const spellings = await probeFloatSpellings(client, header, ctx);
  const target = { client, spellings, preFlight: await client.preFlight(ctx) };
  const made = await createLike(target, header, 'with-schema', ctx);
  assert.match(made.configuration ?? '', /"space":"cosine".*"max_neighbors":24/);
  await assert.rejects(
    createLike(target, { ...header, space: 'ip' }, 'wrong-space', ctx),
    /with the distance cosine instead of ip/,
  );
  const names = await raw.json<{ name: string }[]>('GET', `${defaultPath}/collections`);
  assert.deepEqual(
    names.map(({ name }) => name).filter((name) => name !== 'watched'),
    ['with-schema'],
  );
});

test('an export is read in the pieces a store hands out, and damage is named with its line', async () => {
  await captured('l2');
  const directory = join(root, 'export');
  const sink = createDirectorySink(directory, { encrypted: true });
  await using prepared = await prepareLogicalCapture({ name: 'chroma', url: server.url }, ctx);
  await prepared.capture(sink, ctx);
  const source = createDirectorySource(directory);
  for (const { path } of sink.artifacts) {
    const whole = await openExport(source.open(path, ctx.signal), path);
    const expected = await Array.fromAsync(whole.records);
    const pieces = await openExport(inPieces(source.open(path, ctx.signal), 7), path);
    assert.deepEqual(await Array.fromAsync(pieces.records), expected);
  }
});

async function* inPieces(body: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; at += size) yield chunk.subarray(at, at + size);
  }
}
