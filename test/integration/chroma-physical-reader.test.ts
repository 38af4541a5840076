import assert from 'node:assert/strict';
import { cp, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { inspectDirectory } from '../../src/components/chroma/direct/inspect.ts';
import { PersistDirectory } from '../../src/components/chroma/direct/persist-directory.ts';
import { compareFacts, placedCollections, placeOf } from '../../src/components/chroma/facts.ts';
import { verifyLive } from '../../src/components/chroma/http/verify.ts';
import { encodeMetadata } from '../../src/components/chroma/record.ts';
import { loadedChroma, type LoadedChroma } from '../fixtures/chroma-directory.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
const { signal } = ctx;
let chroma: LoadedChroma;
let api: string;
let copies = 0;

before(async () => {
  chroma = await loadedChroma(1200, 31);
  api = `${chroma.server.url}/api/v2`;
});
after(() => chroma[Symbol.asyncDispose]());

async function post(path: string, body: string): Promise<{ id: string }> {
  const response = await fetch(`${api}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  });
  const text = await response.text();
  assert.ok(response.ok, `${path}: ${response.status} ${text}`);
  return JSON.parse(text) as { id: string };
}

/** A copy of the directory while nobody writes. */
async function copyOf(directory: string): Promise<string> {
  const copy = join(chroma.root, `copy-${++copies}`);
  await cp(directory, copy, { recursive: true });
  return copy;
}

function vectorSegment(directory: string, collection: string): string {
  using opened = new PersistDirectory(directory);
  const segment = opened.collections().find(({ name }) => name === collection)?.vectorSegment;
  return join(directory, segment!);
}

const codesOf = async (directory: string): Promise<string[]> =>
  (await inspectDirectory(directory, 'chroma', signal)).problems
    .filter(({ severity }) => severity === 'error')
    .map(({ code }) => code);

test('what is read from the files is what the server answers, saved or queued', async () => {
  const load = chroma.load;
  for (let i = 0; i < 60; i++) await load.anyOperation();
  const inspection = await inspectDirectory(await copyOf(chroma.server.dataDir), 'chroma', signal);
  assert.deepEqual(inspection.problems, []);
  assert.deepEqual(
    [...placedCollections(inspection)].map(({ collection }) => [collection.name, collection.recordCount]),
    [...load.acknowledged()].map(([name, records]) => [name, records.size]).sort(),
  );
  assert.deepEqual(await verifyLive({ url: chroma.server.url, name: 'chroma' }, inspection, ctx), []);
});

test('odd values, tenants and databases are read without loss', async () => {
  await post('/tenants', '{"name":"acme"}');
  await post('/tenants/acme/databases', '{"name":"lab"}');
  const place = '/tenants/acme/databases/lab/collections';
  const { id } = await post(
    place,
    '{"name":"odd","metadata":{"i":9007199254740993,"f":2.0,"b":false,"s":"ü"},"configuration":{"hnsw":{"space":"cosine"}}}',
  );
  await post(
    `${place}/${id}/add`,
    `{"ids":["plain","bare","doc","late"],"embeddings":[[3,4],[0.5,0],[1,1],[1,2]],
      "documents":[null,null,"«a»\\n\\u0000b",null],"uris":["file:///x",null,null,null],
      "metadatas":[{"i":9007199254740993,"one":1.0,"int":1,"yes":true,"text":"1"},null,null,{"gone":1,"kept":2}]}`,
  );
  await post(
    `${place}/${id}/update`,
    '{"ids":["late"],"metadatas":[{"gone":null,"new":"n"}],"documents":["later"]}',
  );
  const copy = await copyOf(chroma.server.dataDir);
  // SQLite calls the full-text index malformed for the NUL; no reason to refuse the copy.
  const { problems } = await inspectDirectory(copy, 'chroma', signal);
  assert.deepEqual(
    problems.map(({ severity, code }) => [severity, code]),
    [['warning', 'fulltext-index-odd']],
  );
  using directory = new PersistDirectory(copy);
  const stored = directory.collections().find(({ name }) => name === 'odd')!;
  assert.equal(stored.tenant, 'acme');
  assert.equal(stored.database, 'lab');
  assert.equal(stored.space, 'cosine');
  assert.equal(encodeMetadata(stored.metadata!), '{"b":false,"f":2.0,"i":9007199254740993,"s":"ü"}');
  using opened = await directory.open(stored, () => assert.fail('problem'), signal);
  const records = new Map<string, unknown>();
  for await (const { id: record, document, uri, metadata, vector } of opened.records(signal)) {
    records.set(record, [document, uri, encodeMetadata(metadata), [...vector!]]);
  }
  assert.deepEqual(Object.fromEntries(records), {
    plain: [null, 'file:///x', '{"i":9007199254740993,"int":1,"one":1.0,"text":"1","yes":true}', [3, 4]],
    bare: [null, null, '{}', [0.5, 0]],
    doc: ['«a»\n\u0000b', null, '{}', [1, 1]],
    late: ['later', null, '{"kept":2,"new":"n"}', [1, 2]],
  });
});

test('a database under a tenant that was never created is read', async () => {
  await post('/tenants/ghost/databases', '{"name":"attic"}');
  const place = '/tenants/ghost/databases/attic/collections';
  const { id } = await post(place, '{"name":"kept"}');
  await post(`${place}/${id}/add`, '{"ids":["1"],"embeddings":[[1,2]]}');
  const inspection = await inspectDirectory(await copyOf(chroma.server.dataDir), 'chroma', signal);
  const places = [...placedCollections(inspection)].map(placeOf);
  assert.ok(places.includes('ghost/attic/kept'), places.join());
});

test('queue rows that neither segment has taken yet are applied to vectors and metadata', async () => {
  const copy = await copyOf(chroma.server.dataDir);
  const before_ = await inspectDirectory(copy, 'chroma', signal);
  const database = new DatabaseSync(join(copy, 'chroma.sqlite3'));
  const collection = database.prepare("SELECT id FROM collections WHERE name = 'load-l2'").get()![
    'id'
  ] as string;
  const [updated, deleted] = database
    .prepare(
      `SELECT embedding_id AS id FROM embeddings WHERE segment_id =
       (SELECT id FROM segments WHERE collection = ? AND scope = 'METADATA') LIMIT 2`,
    )
    .all(collection)
    .map((row) => row['id'] as string);
  const vector = new Uint8Array(new Float32Array(24).fill(0.25).buffer);
  const queue = database.prepare(
    `INSERT INTO embeddings_queue (operation, topic, id, vector, encoding, metadata) VALUES (?, ?, ?, ?, 'FLOAT32', ?)`,
  );
  const topic = `persistent://default/default/${collection}`;
  queue.run(0, topic, 'fresh', vector, '{"chroma:document":"new","n":7}');
  queue.run(0, topic, updated!, vector, '{"ignored":"an add of a known id"}');
  queue.run(1, topic, updated!, vector, '{"serial":null,"n":1.5}');
  queue.run(1, topic, 'unknown', vector, '{"ignored":"an update of an unknown id"}');
  queue.run(3, topic, deleted!, null, '{}');
  queue.run(2, topic, 'upserted', vector, '{"n":2}');
  queue.run(3, topic, 'upserted', null, '{}');
  database.close();

  using directory = new PersistDirectory(copy);
  const stored = directory.collections().find(({ name }) => name === 'load-l2')!;
  using opened = await directory.open(stored, () => assert.fail('problem'), signal);
  assert.equal(opened.record(deleted!), undefined);
  assert.equal(opened.record('unknown'), undefined);
  assert.equal(opened.record('upserted'), undefined);
  assert.equal(opened.record('fresh')?.document, 'new');
  assert.equal(opened.record('fresh')?.metadata.get('n'), 7n);
  const changed = opened.record(updated!)!;
  assert.equal(changed.metadata.get('serial'), undefined);
  assert.equal(changed.metadata.get('n'), 1.5);
  assert.equal(changed.metadata.get('even') !== undefined, true);
  assert.equal(changed.metadata.get('ignored'), undefined);
  assert.equal(changed.vector![0], 0.25);
  const after_ = await inspectDirectory(copy, 'chroma', signal);
  assert.deepEqual(await codesOf(copy), []);
  assert.deepEqual(
    compareFacts('chroma', before_, after_, 'exact').map(({ code }) => code),
    ['ids-differ', 'content-differs', 'vectors-differ'],
  );
});

test('a torn copy is noticed, whichever of its files is torn', async () => {
  const files = ['data_level0.bin', 'header.bin', 'length.bin', 'link_lists.bin', 'index_metadata.pickle'];
  const pristine = await copyOf(chroma.server.dataDir);
  for (const file of files) {
    const directory = await copyOf(pristine);
    const path = join(vectorSegment(directory, 'load-l2'), file);
    await truncate(path, (await stat(path)).size - 1);
    assert.deepEqual(await codesOf(directory), ['vector-index-damaged'], file);
  }
  const withoutMap = await copyOf(pristine);
  await rm(join(vectorSegment(withoutMap, 'load-l2'), 'index_metadata.pickle'));
  assert.deepEqual(await codesOf(withoutMap), ['record-without-vector']);
  const withoutIndex = await copyOf(pristine);
  await rm(vectorSegment(withoutIndex, 'load-l2'), { recursive: true });
  assert.deepEqual(await codesOf(withoutIndex), ['record-without-vector']);
});

test('labels that are missing or deleted are reported with their records', async () => {
  const directory = await copyOf(chroma.server.dataDir);
  const path = join(vectorSegment(directory, 'load-l2'), 'data_level0.bin');
  const header = await readFile(join(vectorSegment(directory, 'load-l2'), 'header.bin'));
  const elementBytes = Number(header.readBigUInt64LE(28));
  const labelOffset = Number(header.readBigUInt64LE(36));
  const handle = await open(path, 'r+');
  // The third byte of an element marks it deleted; another label makes the true one missing.
  for (let element = 100; element < 110; element++) {
    await handle.write(Buffer.from([1]), 0, 1, element * elementBytes + 2);
  }
  for (let element = 110; element < 120; element++) {
    await handle.write(Buffer.from([0xff, 0xff, 0xff]), 0, 3, element * elementBytes + labelOffset);
  }
  await handle.close();
  const codes = await codesOf(directory);
  assert.deepEqual(codes.sort(), ['label-deleted', 'label-missing', 'record-without-vector']);
});

test('an index of another time than the tables is noticed', async () => {
  const older = await copyOf(chroma.server.dataDir);
  for (let i = 0; i < 150; i++) await chroma.load.anyOperation();
  const newer = await copyOf(chroma.server.dataDir);
  for (const name of await readdir(older)) {
    if (name === 'chroma.sqlite3') continue;
    await rm(join(newer, name), { recursive: true, force: true });
    await cp(join(older, name), join(newer, name), { recursive: true });
  }
  const codes = await codesOf(newer);
  assert.ok(codes.includes('record-without-vector'), codes.join());
});

test('a damaged SQLite file is noticed', async () => {
  const directory = await copyOf(chroma.server.dataDir);
  const path = join(directory, 'chroma.sqlite3');
  const bytes = await readFile(path);
  bytes.fill(0x5a, Math.floor(bytes.length / 2), Math.floor(bytes.length / 2) + 8192);
  await writeFile(path, bytes);
  const noticed = await codesOf(directory).catch((error: unknown) => [String(error)]);
  assert.ok(noticed.length > 0);
});

test('a link, entry point or level that leads nowhere is noticed in each file of the index', async () => {
  const pristine = await copyOf(chroma.server.dataDir);
  const segment = vectorSegment(pristine, 'load-l2').slice(pristine.length + 1);
  const header = await readFile(join(pristine, segment, 'header.bin'));
  const count = Number(header.readBigUInt64LE(20));
  const elementBytes = Number(header.readBigUInt64LE(28));
  const lists = await readFile(join(pristine, segment, 'link_lists.bin'));
  let upper = 0;
  while (lists.readUInt32LE(upper) === 0) upper += 4;
  const u32 = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return bytes;
  };
  const damages: readonly (readonly [string, number, Buffer])[] = [
    ['data_level0.bin', 7 * elementBytes + 4, u32(count)],
    ['data_level0.bin', (count - 1) * elementBytes + 4, u32(0xfffffff0)],
    ['data_level0.bin', 3 * elementBytes, Buffer.from([0xff, 0xff])],
    ['link_lists.bin', upper + 8, u32(count + 1)],
    // Element 0 has no list at this level.
    ['link_lists.bin', upper + 8, u32(0)],
    ['link_lists.bin', upper + 4, Buffer.from([0xff, 0x00])],
    ['header.bin', 56, u32(count)],
    ['header.bin', 56, u32(0xffffffff)],
    ['header.bin', 52, u32(header.readInt32LE(52) + 1)],
    ['header.bin', 52, u32(0xffffffff)],
  ];
  for (const [file, at, bytes] of damages) {
    const path = join(pristine, segment, file);
    const original = await readFile(path);
    const damaged = Buffer.from(original);
    bytes.copy(damaged, at);
    await writeFile(path, damaged);
    assert.deepEqual(await codesOf(pristine), ['vector-index-damaged'], `${file} at ${at}`);
    await writeFile(path, original);
  }
  assert.deepEqual(await codesOf(pristine), []);
});
