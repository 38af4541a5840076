import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectionDigester, compareDigests, type CollectionDigests } from './digest.ts';
import type { ChromaRecord } from './record.ts';

const dimension = 32;

function record(serial: number, change: Partial<ChromaRecord> = {}): ChromaRecord {
  return {
    id: `id${serial}`,
    document: `text ${serial}`,
    uri: null,
    metadata: new Map([['n', BigInt(serial)]]),
    vector: Float32Array.from({ length: dimension }, (_, d) => Math.sin(serial * 31 + d)),
    ...change,
  };
}

const records = Array.from({ length: 2000 }, (_, serial) => record(serial));

function digestsOf(all: readonly ChromaRecord[]): CollectionDigests {
  const digester = new CollectionDigester();
  for (const one of all) digester.add(one);
  return digester.result();
}

const codes = (changed: readonly ChromaRecord[], vectors: 'exact' | 'tolerant' = 'tolerant'): string[] =>
  compareDigests(digestsOf(records), digestsOf(changed), vectors).map(({ code }) => code);

const withRecord = (serial: number, change: Partial<ChromaRecord>): ChromaRecord[] =>
  records.map((one, i) => (i === serial ? record(i, change) : one));

test('the order of records does not matter, their content does', () => {
  assert.deepEqual(codes([...records].reverse(), 'exact'), []);
  assert.deepEqual(codes(withRecord(5, { document: null })), ['content-differs']);
  assert.deepEqual(codes(withRecord(5, { document: '' })), ['content-differs']);
  assert.deepEqual(codes(withRecord(5, { uri: 'x' })), ['content-differs']);
  assert.deepEqual(codes(withRecord(5, { metadata: new Map([['n', 5]]) })), ['content-differs']);
  assert.deepEqual(codes(withRecord(5, { id: 'other' }))[0], 'ids-differ');
  assert.deepEqual(codes(records.slice(1))[0], 'record-count-differs');
});

test('a single missing, exchanged or foreign vector of 2000 shows through the tolerance', () => {
  assert.deepEqual(codes(withRecord(7, { vector: null })), ['vectors-missing']);
  assert.deepEqual(codes(withRecord(7, { vector: new Float32Array(dimension) })), ['vectors-differ']);
  assert.deepEqual(codes(withRecord(7, { vector: record(8).vector })), ['vectors-differ']);
  const exchanged = [...records];
  exchanged[7] = record(7, { vector: record(8).vector });
  exchanged[8] = record(8, { vector: record(7).vector });
  assert.deepEqual(codes(exchanged), ['vectors-differ']);
});

test('an ulp in every component is within the tolerance and not exact', () => {
  const nudged = records.map((one) => ({
    ...one,
    vector: one.vector?.map((value) => value * (1 + 2 ** -23)) ?? null,
  }));
  assert.deepEqual(codes(nudged, 'tolerant'), []);
  assert.deepEqual(codes(nudged, 'exact'), ['vectors-differ']);
});

test('an empty collection equals itself', () => {
  assert.deepEqual(compareDigests(digestsOf([]), digestsOf([]), 'exact'), []);
});
