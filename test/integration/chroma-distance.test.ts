import assert from 'node:assert/strict';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inspectDirectory } from '../../src/components/chroma/direct/inspect.ts';
import { chromaFactsOf, placedCollections, type ChromaFacts } from '../../src/components/chroma/facts.ts';
import { verifyLive } from '../../src/components/chroma/http/verify.ts';
import { prepareLogicalCapture } from '../../src/components/chroma/http/capture.ts';
import { startChroma, type PrivateChroma } from '../../src/demo/servers/chroma.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { chromaOverHttp } from '../fixtures/chroma-component.ts';
import { createCollection, defaultPath, manifestOf, RawChroma } from '../fixtures/chroma-http.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();

/** How a collection's settings lie in the tables, and by what the server searches it then. */
interface Shape {
  readonly metadata: Readonly<Record<string, string>> | null;
  /** What versions before 1.0 wrote for the vector segment; they wrote no configuration. */
  readonly segment?: string;
  readonly configuration?: { readonly hnsw: Readonly<Record<string, unknown>> };
  readonly space: 'l2' | 'cosine' | 'ip';
  readonly empty?: boolean;
}

const cosine = { 'hnsw:space': 'cosine' };
const shapes: Readonly<Record<string, Shape>> = {
  'before-1': { metadata: cosine, segment: 'cosine', space: 'cosine' },
  'before-1-ip': { metadata: { 'hnsw:space': 'ip', topic: 'x' }, segment: 'ip', space: 'ip' },
  'before-1-empty': { metadata: cosine, segment: 'cosine', space: 'cosine', empty: true },
  'before-1-metadata-replaced': { metadata: { topic: 'x' }, segment: 'cosine', space: 'cosine' },
  'settings-lost': { metadata: cosine, segment: 'none', space: 'l2' },
  'of-1-metadata': { metadata: cosine, space: 'cosine' },
  'of-1-tuned': { metadata: cosine, configuration: { hnsw: { ef_search: 50 } }, space: 'l2' },
  'of-1-chosen': { metadata: cosine, configuration: { hnsw: { space: 'ip' } }, space: 'ip' },
  plain: { metadata: null, space: 'l2' },
};
const vectors = [
  [3, 4],
  [1, 0],
  [0, 2],
];
const distancesFrom34 = { l2: [0, 20, 13], cosine: [0, 0.4, 0.2], ip: [-24, -2, -7] };

let root: string;
let server: PrivateChroma;
let raw: RawChroma;

async function makeCollections(): Promise<void> {
  for (const [name, { metadata, configuration, empty }] of Object.entries(shapes)) {
    const body = JSON.stringify({ name, metadata, configuration });
    const path = await createCollection(raw, defaultPath, body);
    if (empty !== true) await raw.json('POST', `${path}/add`, { ids: ['a', 'b', 'c'], embeddings: vectors });
  }
}

/** What a directory of an earlier version looks like once a 1.0 server has migrated it. */
function ageCollections(directory: string): void {
  const database = new DatabaseSync(join(directory, 'chroma.sqlite3'));
  for (const [name, { segment }] of Object.entries(shapes)) {
    if (segment === undefined) continue;
    database.prepare('UPDATE collections SET config_json_str = NULL WHERE name = ?').run(name);
    if (segment === 'none') continue;
    database
      .prepare(
        `INSERT INTO segment_metadata (segment_id, key, str_value)
         SELECT s.id, 'hnsw:space', ? FROM segments s JOIN collections c ON c.id = s.collection
         WHERE c.name = ? AND s.scope = 'VECTOR'`,
      )
      .run(segment, name);
  }
  database.close();
}

async function searchedDistances(name: string): Promise<readonly number[]> {
  const { id } = await raw.json<{ id: string }>('GET', `${defaultPath}/collections/${name}`);
  const answer = await raw.json<{ ids: string[][]; distances: number[][] }>(
    'POST',
    `${defaultPath}/collections/${id}/query`,
    { query_embeddings: [[3, 4]], n_results: 3, include: ['distances'] },
  );
  const by = new Map(answer.ids[0]!.map((record, i) => [record, answer.distances[0]![i]!]));
  return ['a', 'b', 'c'].map((record) => Math.round(by.get(record)! * 1e4) / 1e4);
}

async function assertSearchedAsMade(): Promise<void> {
  for (const [name, { space, empty }] of Object.entries(shapes)) {
    if (empty !== true) assert.deepEqual(await searchedDistances(name), distancesFrom34[space], name);
  }
}

const spacesIn = (facts: Pick<ChromaFacts, 'tenants'>): Record<string, string> =>
  Object.fromEntries(
    [...placedCollections(facts)].map(({ collection }) => [collection.name, collection.space]),
  );
const expectedSpaces = Object.fromEntries(Object.entries(shapes).map(([name, { space }]) => [name, space]));

async function captured(): Promise<{ readonly manifest: ComponentManifest; readonly directory: string }> {
  const directory = await mkdtemp(join(root, 'artifacts-'));
  await using prepared = await prepareLogicalCapture({ name: 'chroma', url: server.url }, ctx);
  const sink = createDirectorySink(directory, { encrypted: true });
  const manifest = manifestOf('chroma', await prepared.capture(sink, ctx), sink);
  return { manifest, directory };
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-chroma-distance-'));
  server = await startChroma(join(root, 'server'), ctx);
  raw = new RawChroma(server.url);
  await makeCollections();
  await server.stop();
  ageCollections(server.dataDir);
  await server.start();
  await assertSearchedAsMade();
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

test('the files, and the answers over HTTP, tell the distance that the server searches by', async () => {
  const copy = join(root, 'copy');
  await cp(server.dataDir, copy, { recursive: true });
  const inspection = await inspectDirectory(copy, 'chroma', ctx.signal);
  assert.deepEqual(inspection.problems, []);
  assert.deepEqual(spacesIn(inspection), expectedSpaces);
  assert.deepEqual(await verifyLive({ url: server.url, name: 'chroma' }, inspection, ctx), []);
  const facts = chromaFactsOf((await captured()).manifest);
  assert.deepEqual(spacesIn(facts), expectedSpaces);
  assert.deepEqual(await verifyLive({ url: server.url, name: 'chroma' }, facts, ctx), []);
});

test('a copy over HTTP is restored with the distance, the metadata and the records it had', async () => {
  const { manifest, directory } = await captured();
  const planned = await chromaOverHttp(server.url).planRestore(
    manifest,
    { restoreConfig: false, restoreId: 'd1' },
    ctx,
    noArtifacts,
  );
  const staged = await planned.stage(createDirectorySource(directory), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.swap(ctx);
  await assertSearchedAsMade();
  const facts = chromaFactsOf(manifest);
  assert.deepEqual(await verifyLive({ url: server.url, name: 'chroma' }, facts, ctx), []);
});

test('what 1.0.12 captured with the declared distance is verified and restored', async () => {
  const { manifest, directory } = await captured();
  const old = JSON.parse(JSON.stringify(manifest)) as ComponentManifest;
  const before_ = (old.facts as ChromaFacts).tenants[0]!.databases[0]!.collections.find(
    ({ name }) => name === 'before-1',
  )!;
  Object.assign(before_, { space: 'l2' });
  delete before_.spaceProven;
  assert.equal(spacesIn(chromaFactsOf(old))['before-1'], 'cosine');
  assert.deepEqual(await verifyLive({ url: server.url, name: 'chroma' }, chromaFactsOf(old), ctx), []);
  const planned = await chromaOverHttp(server.url).planRestore(
    old,
    { restoreConfig: false, restoreId: 'd2' },
    ctx,
    noArtifacts,
  );
  const staged = await planned.stage(createDirectorySource(directory), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.discard(ctx);
});
