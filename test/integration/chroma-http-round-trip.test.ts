import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { prepareLogicalCapture } from '../../src/components/chroma/http/capture.ts';
import { logicalGeneration, swapsOf } from '../../src/components/chroma/http/swap.ts';
import { verifyLive } from '../../src/components/chroma/http/verify.ts';
import { chromaFactsOf } from '../../src/components/chroma/facts.ts';
import { startChroma, type PrivateChroma } from '../../src/demo/servers/chroma.ts';
import { CorruptionError, PreviousDataGoneError, RestoreRefusedError } from '../../src/model/errors.ts';
import { hasErrors } from '../../src/model/finding.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { SwapRecord } from '../../src/model/restore-plan.ts';
import type { ArtifactSource } from '../../src/ports/artifacts.ts';
import type { PlannedRestore, Staged } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { chromaOverHttp } from '../fixtures/chroma-component.ts';
import {
  assertSameDatabase,
  createCollection,
  databasePath,
  defaultPath,
  dumpDatabase,
  manifestOf,
  RawChroma,
  seededRandom,
  type CollectionDump,
} from '../fixtures/chroma-http.ts';
import { counted, isCampaign } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';

const seed = 20261124;
/** A tenth of the records has every kind of value and several pages, too. */
const scale = counted(0.1, 1);
const ctx = testContext();
const tenants = ['default_tenant', 'second tenant'];
const databases = [
  defaultPath,
  databasePath('default_tenant', 'andere Datenbank ü'),
  databasePath('second tenant', 'facts'),
  databasePath('second tenant', 'empty'),
];

let root: string;
let server: PrivateChroma;
let raw: RawChroma;
let manifest: ComponentManifest;
let source: ArtifactSource;
let original: CollectionDump[][];

const dumpAll = async (from: RawChroma): Promise<Map<string, CollectionDump>[]> => {
  const dumps = [];
  for (const database of databases) dumps.push(await dumpDatabase(from, database));
  return dumps;
};
let originalDumps: Map<string, CollectionDump>[];

const planInto = (url: string, restoreId: string, from = manifest): Promise<PlannedRestore> =>
  chromaOverHttp(url, 'chromadb').planRestore(from, { restoreConfig: false, restoreId }, ctx, noArtifacts);

async function stageInto(url: string, restoreId: string): Promise<Staged> {
  return (await planInto(url, restoreId)).stage(source, ctx);
}

async function wipe(from: RawChroma): Promise<void> {
  for (const database of databases) {
    for (const { name } of await from.json<{ name: string }[]>('GET', `${database}/collections`)) {
      await from.text('DELETE', `${database}/collections/${encodeURIComponent(name)}`);
    }
  }
}

/** Metadata of every kind: 64-bit integers, floats of all magnitudes, integral floats, text, nothing. */
function metadataText(i: number, random: () => number): string {
  if (i % 7 === 0) return 'null';
  const float = (random() - 0.5) * 10 ** Math.floor(random() * 40 - 20);
  const members = [
    `"int64":${[9007199254740993n, -9223372036854775808n, 9223372036854775807n, BigInt(i)][i % 4]}`,
    `"integral":${i}.0`,
    `"float":${float.toExponential()}`,
    `"bool":${i % 2 === 0}`,
    `"text":${JSON.stringify(`Zeile ${i}\n"\\ \u2028 🦊`)}`,
    `"sch\\u00fcssel":"${i}"`,
  ];
  return `{${members.slice(0, 1 + (i % members.length)).join(',')}}`;
}

async function seedCollection(
  database: string,
  body: string,
  shape: { records: number; dimension: number },
  random: () => number,
): Promise<void> {
  const path = await createCollection(raw, database, body);
  for (let from = 0; from < shape.records; from += 500) {
    const indices = Array.from({ length: Math.min(500, shape.records - from) }, (_, i) => from + i);
    const vector = (): string =>
      `[${Array.from({ length: shape.dimension }, () => Math.fround(random() * 4 - 2)).join(',')}]`;
    await raw.text(
      'POST',
      `${path}/add`,
      `{"ids":[${indices.map((i) => JSON.stringify(recordId(i))).join(',')}],` +
        `"embeddings":[${indices.map(vector).join(',')}],` +
        `"documents":[${indices.map((i) => (i % 3 === 0 ? 'null' : JSON.stringify(i % 5 === 0 ? '' : `Dokument ${i} – ü 日本`))).join(',')}],` +
        `"uris":[${indices.map((i) => (i % 11 === 0 ? `"file:///${i}"` : 'null')).join(',')}],` +
        `"metadatas":[${indices.map((i) => metadataText(i, random)).join(',')}]}`,
    );
  }
}

const recordId = (i: number): string => (i % 10 === 3 ? `id "${i}" ü✓\u0007 日本` : `record-${i}`);

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-chroma-http-'));
  server = await startChroma(join(root, 'server'), ctx);
  raw = new RawChroma(server.url);
  const random = seededRandom(seed);
  await raw.json('POST', '/tenants', { name: 'second tenant' });
  await raw.json('POST', databasePath('default_tenant', 'andere Datenbank ü').replace(/\/[^/]*$/, ''), {
    name: 'andere Datenbank ü',
  });
  for (const name of ['facts', 'empty']) {
    await raw.json('POST', '/tenants/second%20tenant/databases', { name });
  }
  const space = (of: string): string => `"configuration":{"hnsw":{"space":"${of}","ef_construction":120}}`;
  const [first, second, third] = databases as [string, string, string];
  const longName = 'n'.repeat(512);
  await seedCollection(
    first,
    `{"name":"passages",${space('l2')}}`,
    { records: 1700 * scale, dimension: 24 },
    random,
  );
  await seedCollection(
    first,
    `{"name":"memories",${space('cosine')},"metadata":{"n":9007199254740993,"f":1.0,"g":0.30000000000000004,"h":7.251055610699998e49}}`,
    { records: 1200 * scale, dimension: 16 },
    random,
  );
  await seedCollection(
    second,
    `{"name":"passages",${space('ip')}}`,
    { records: 300 * scale, dimension: 8 },
    random,
  );
  await seedCollection(second, `{"name":"${longName}"}`, { records: 3, dimension: 2 }, random);
  await seedCollection(
    third,
    `{"name":"nothing","metadata":{"hnsw:space":"ip"}}`,
    { records: 0, dimension: 1 },
    random,
  );
  await seedCollection(
    third,
    `{"name":"embedder","configuration":{"embedding_function":{"type":"known","name":"default","config":{}}}}`,
    { records: 1, dimension: 3 },
    random,
  );
  originalDumps = await dumpAll(raw);
  original = originalDumps.map((dump) => [...dump.values()]);
  const sink = createDirectorySink(join(root, 'snapshot'), { encrypted: true });
  await using prepared = await prepareLogicalCapture({ name: 'chroma', url: server.url, tenants }, ctx);
  assert.equal(prepared.pointInTime, 'own');
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  manifest = manifestOf('chroma', await prepared.capture(sink, ctx), sink);
  source = createDirectorySource(join(root, 'snapshot'));
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

describe(`logical round trip (seed ${seed})`, { timeout: 300_000 }, () => {
  test('the facts count what is there', () => {
    const facts = chromaFactsOf(manifest);
    const counts = facts.tenants.flatMap(({ databases: inTenant }) =>
      inTenant.flatMap(({ collections }) => collections.map(({ recordCount }) => recordCount)),
    );
    const expected = original.flat().map(({ records }) => records.size);
    assert.deepEqual(counts.sort(), expected.sort());
    assert.equal(manifest.artifacts.length, 6);
  });

  test('the live server verifies against its own capture', async () => {
    assert.deepEqual(await verifyLive({ name: 'chroma', url: server.url }, chromaFactsOf(manifest), ctx), []);
  });

  test('everything comes back after all collections were deleted', async () => {
    await wipe(raw);
    const findings = await verifyLive({ name: 'chroma', url: server.url }, chromaFactsOf(manifest), ctx);
    assert.equal(findings.filter(({ code }) => code === 'collection-missing').length, 6);
    const staged = await stageInto(server.url, 'r1');
    assert.deepEqual(await staged.verify(ctx), []);
    await staged.swap(ctx);
    await staged.discard(ctx);
    for (const [i, dump] of (await dumpAll(raw)).entries()) {
      assertSameDatabase(dump, originalDumps[i]!, databases[i]!);
    }
    assert.deepEqual(await verifyLive({ name: 'chroma', url: server.url }, chromaFactsOf(manifest), ctx), []);
  });

  test('it comes back on a fresh server, with its tenants and databases', async () => {
    await using fresh = await startChroma(join(root, 'fresh'), ctx);
    const staged = await stageInto(fresh.url, 'r2');
    assert.deepEqual(await staged.verify(ctx), []);
    await staged.swap(ctx);
    const freshRaw = new RawChroma(fresh.url);
    for (const [i, dump] of (await dumpAll(freshRaw)).entries()) {
      assertSameDatabase(dump, originalDumps[i]!, databases[i]!);
    }
    const names = await freshRaw.json<{ name: string }[]>('GET', '/tenants/second%20tenant/databases');
    assert.deepEqual(names.map(({ name }) => name).sort(), ['empty', 'facts']);
  });

  test('a swap keeps the live collections, undo puts them back from every prefix of its renames', async () => {
    const passages = `${defaultPath}/collections/passages`;
    const { id } = await raw.json<{ id: string }>('GET', passages);
    await raw.json('POST', `${defaultPath}/collections/${id}/add`, {
      ids: ['written after the snapshot'],
      embeddings: [Array.from({ length: 24 }, () => 1)],
    });
    await raw.text('DELETE', `${databases[2]}/collections/embedder`);
    const beforeRestore = await dumpAll(raw);
    const idsBefore = beforeRestore.map((dump) => [...dump].map(([name, found]) => [name, found.id]).sort());
    // Renames of the swap: two per collection, one for the collection that was deleted.
    // Those of the collections in the middle are like those of the first and the last.
    const prefixes = isCampaign ? Array.from({ length: 12 }, (_, renames) => renames) : [0, 1, 2, 9, 10, 11];
    for (const renames of prefixes) {
      const staged = await stageInto(server.url, `u${renames}`);
      const record = JSON.parse(JSON.stringify(staged.record)) as SwapRecord;
      await carryOut(record, renames);
      if (renames === 11) await staged.swap(ctx);
      const generation = logicalGeneration(record, { url: server.url });
      await generation.undo(ctx);
      await generation.undo(ctx);
      const names = (await dumpNames(raw)).map((found) => found.sort());
      assert.deepEqual(names, idsBefore, `after ${renames} renames`);
    }
    for (const [i, dump] of (await dumpAll(raw)).entries()) {
      assertSameDatabase(dump, beforeRestore[i]!, databases[i]!);
    }
  });

  test('a swap that crashed between its renames is finished by running it again', async () => {
    const staged = await stageInto(server.url, 'again');
    await carryOut(staged.record, 3);
    await staged.swap(ctx);
    await staged.swap(ctx);
    const expected = chromaFactsOf(manifest);
    assert.equal(hasErrors(await verifyLive({ name: 'chroma', url: server.url }, expected, ctx)), false);
    const generation = logicalGeneration(staged.record, { url: server.url });
    await generation.discardPrevious(ctx);
    await generation.discardPrevious(ctx);
    for (const [i, dump] of (await dumpAll(raw)).entries()) {
      assertSameDatabase(dump, originalDumps[i]!, databases[i]!);
    }
    // What is live now is all there is: going back would only delete.
    await assert.rejects(generation.undo(ctx), PreviousDataGoneError);
    assert.deepEqual((await dumpNames(raw))[0]?.map(([name]) => name).sort(), ['memories', 'passages']);
  });

  test('discarding the previous data before the swap is complete deletes nothing', async () => {
    const before = await dumpNames(raw);
    const staged = await stageInto(server.url, 'early');
    const generation = logicalGeneration(staged.record, { url: server.url });
    await generation.discardPrevious(ctx);
    await carryOut(staged.record, 1);
    await generation.discardPrevious(ctx);
    await generation.undo(ctx);
    assert.deepEqual(await dumpNames(raw), before);
  });

  test('a swap is refused when a live collection was replaced while it was staged', async () => {
    const staged = await stageInto(server.url, 'late');
    await raw.text('DELETE', `${defaultPath}/collections/memories`);
    await raw.json('POST', `${defaultPath}/collections`, { name: 'memories' });
    const before = await dumpNames(raw);
    await assert.rejects(staged.swap(ctx), RestoreRefusedError);
    assert.deepEqual(await dumpNames(raw), before);
    await staged.discard(ctx);
    assert.deepEqual((await dumpNames(raw))[0]?.map(([name]) => name).sort(), ['memories', 'passages']);
  });

  test('a truncated export fails the staging and leaves nothing staged', async () => {
    const before = await dumpNames(raw);
    const truncated: ArtifactSource = {
      ...source,
      async *open(path, signal) {
        let left = 10_000;
        for await (const chunk of source.open(path, signal)) {
          yield chunk.subarray(0, left);
          left -= Math.min(left, chunk.length);
        }
      },
    };
    const planned = await planInto(server.url, 'cut');
    await assert.rejects(planned.stage(truncated, ctx), CorruptionError);
    const lacking = { ...manifest, artifacts: manifest.artifacts.slice(1) };
    const missing = await planInto(server.url, 'cut', lacking);
    await assert.rejects(missing.stage(source, ctx), CorruptionError);
    assert.deepEqual(await dumpNames(raw), before);
  });

  test('the plan names every collection and where the live one goes', async () => {
    const { plan } = await planInto(server.url, 'p1');
    assert.equal(plan.steps.length, 6);
    assert.match(
      plan.steps.join('\n'),
      /default_tenant\/default_database\/passages; the live one is kept as passages_tars_prev_p1/,
    );
    assert.deepEqual(plan.requires, { stopped: [], running: ['chromadb'] });
    const physical = { ...manifest, facts: { ...manifest.facts, method: 'physical' } };
    await assert.rejects(planInto(server.url, 'p2', physical), RestoreRefusedError);
  });
});

/** Does the first `count` renames of a swap, as a process killed in between would have. */
async function carryOut(record: SwapRecord, count: number): Promise<void> {
  const renames = swapsOf(record).flatMap((swap) => [
    ...(swap.previousId === null ? [] : [{ ...swap, id: swap.previousId, to: swap.previousName }]),
    { ...swap, id: swap.stagedId, to: swap.name },
  ]);
  for (const { tenant, database, id, to } of renames.slice(0, count)) {
    await raw.json('PUT', `${databasePath(tenant, database)}/collections/${id}`, { new_name: to });
  }
}

async function dumpNames(from: RawChroma): Promise<[string, string][][]> {
  const names: [string, string][][] = [];
  for (const database of databases) {
    const found = await from.json<{ name: string; id: string }[]>('GET', `${database}/collections`);
    names.push(found.map(({ name, id }): [string, string] => [name, id]).sort());
  }
  return names;
}
