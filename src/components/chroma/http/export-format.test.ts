import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptionError, TarsError } from '../../../model/errors.ts';
import type { ChromaRecord } from '../record.ts';
import { headerLine, openExport, recordLine } from './export-format.ts';

const collection = {
  tenant: 'default_tenant',
  database: 'default_database',
  id: '06b1ad9c-d659-4e58-a55d-54ca2d9c49ba',
  name: 'passages',
  metadata: '{"n":9007199254740993}',
  configuration: '{"hnsw":{"space":"ip"}}',
  schema: null,
  dimension: 3,
};
const records: readonly ChromaRecord[] = [
  {
    id: 'ü\n"1"',
    document: 'line one\nline two',
    uri: 'file:///x',
    metadata: new Map<string, string | bigint | number | boolean>([
      ['int', 9223372036854775807n],
      ['float', 1],
      ['flag', false],
      ['text', '\u2028'],
    ]),
    vector: Float32Array.of(0.1, -0, 1.401298464324817e-45),
  },
  { id: 'bare', document: null, uri: null, metadata: new Map(), vector: null },
];

async function* bodyOf(content: string | Buffer, pieceBytes: number): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(content);
  for (let at = 0; at < bytes.length; at += pieceBytes)
    yield await Promise.resolve(bytes.subarray(at, at + pieceBytes));
}

const text = headerLine(collection, { space: 'ip', spaceProven: true }) + records.map(recordLine).join('');

test('an export comes back whole and in pieces of any size, bit for bit', async () => {
  for (const pieceBytes of [1, 2, 3, 64, 100_000]) {
    const { header, records: read } = await openExport(bodyOf(text, pieceBytes), 'x');
    assert.equal(header.space, 'ip');
    assert.equal(header.metadata, collection.metadata);
    assert.deepEqual(await Array.fromAsync(read), records);
  }
});

test('an export cut inside a line is corruption', async () => {
  for (let length = 0; length < Buffer.byteLength(text); length++) {
    const cut = Buffer.from(text).subarray(0, length);
    if (length > 0 && cut.at(-1) === 0x0a) continue;
    await assert.rejects(
      async () => Array.fromAsync((await openExport(bodyOf(cut, 50), 'x')).records),
      CorruptionError,
      `cut at ${length}`,
    );
  }
});

test('damage names its line, a later format its remedy', async () => {
  const damaged = text.replace('"bare"', '"bare');
  await assert.rejects(
    async () => Array.fromAsync((await openExport(bodyOf(damaged, 50), 'chroma/export/1.jsonl')).records),
    /Line 3 of the Chroma export chroma\/export\/1\.jsonl cannot be read/,
  );
  await assert.rejects(
    openExport(bodyOf(text.replace('"format":1', '"format":2'), 50), 'x'),
    (error) => error instanceof TarsError && error.code === 'unsupported-version',
  );
});

test('an export that took the declared distance for proven is read with the distance of its metadata', async () => {
  const declared = {
    ...collection,
    metadata: '{"hnsw:space":"cosine"}',
    configuration: '{"hnsw":{"space":"l2","ef_construction":100,"ef_search":100},"spann":null}',
  };
  const spaceIn = async (line: string): Promise<string> =>
    (await openExport(bodyOf(line, 1000), 'old.jsonl')).header.space;
  const line = headerLine(declared, { space: 'l2', spaceProven: true });
  assert.equal(await spaceIn(line), 'l2');
  assert.equal(await spaceIn(line.replace(',"spaceProven":true', '')), 'cosine');
});
