import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { test } from 'node:test';
import { Chunker } from './chunker.ts';
import { cutGear, deriveGearTable } from './gear.ts';
import {
  chooseParameters,
  chunkMaxBytes,
  chunksPerSize,
  formatParameters,
  parseParameters,
  type ChunkParameters,
} from './parameters.ts';

const table = deriveGearTable(0x3da3358b4dc173n);
const noise = (sizeBytes: number, seed = 0): Buffer =>
  createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(sizeBytes));

function lengths(bytes: Uint8Array, averageBytes: number): number[] {
  const found: number[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = cutGear(table, averageBytes, bytes, at, bytes.length);
    found.push(length);
    at += length;
  }
  return found;
}

test('the gear table follows from the polynomial alone', () => {
  assert.deepEqual(deriveGearTable(0x3da3358b4dc173n), table);
  assert.notDeepEqual(deriveGearTable(0x3da3358b4dc175n), table);
  assert.equal(new Set(table).size, 256);
  // Chunks of every earlier snapshot depend on it.
  assert.deepEqual([...table.slice(0, 3)], [85430357, -1699234744, -1476572163]);
  assert.deepEqual(
    lengths(noise(200_000), 16_384),
    [5978, 24346, 16018, 12300, 17614, 19912, 18520, 18696, 18838, 4404, 26027, 17347],
  );
});

test('gear chunks keep to their limits and come near the average', () => {
  for (const averageBytes of [16 << 10, 64 << 10]) {
    const found = lengths(noise(16 << 20), averageBytes);
    assert.ok(found.slice(0, -1).every((length) => length > averageBytes / 4 && length <= averageBytes * 8));
    const mean = (16 << 20) / found.length;
    assert.ok(mean > averageBytes * 0.9 && mean < averageBytes * 1.5, `${mean} for ${averageBytes}`);
  }
});

test('what cannot be cut by content is cut at the greatest length', () => {
  assert.deepEqual(lengths(Buffer.alloc(300_000), 16_384), [131_072, 131_072, 37_856]);
  assert.deepEqual(lengths(Buffer.alloc(4096), 16_384), [4096]);
});

test('after an insertion the cuts are the old ones again', () => {
  const bytes = noise(4 << 20);
  const before = cutPoints(lengths(bytes, 16_384), 0);
  const after = cutPoints(lengths(Buffer.concat([Buffer.from('xyz'), bytes]), 16_384), -3);
  const lost = [...before].filter((cut) => !after.has(cut)).length;
  assert.ok(lost <= 3, `${lost} of ${before.size} cuts moved`);
});

function cutPoints(chunkBytes: readonly number[], shift: number): Set<number> {
  let at = shift;
  return new Set(chunkBytes.map((length) => (at += length)));
}

test('the cut does not depend on how much there is to see beyond the lookahead', () => {
  const bytes = noise(1 << 20);
  const chunker = (): Chunker => new Chunker({ method: 'gear', sizeBytes: 16_384 }, table);
  const [whole, piecemeal] = [chunker(), chunker()];
  for (let at = 0; at + whole.lookaheadBytes <= bytes.length;) {
    const length = whole.cut(bytes, at, bytes.length);
    assert.equal(piecemeal.cut(bytes, at, at + piecemeal.lookaheadBytes), length);
    at += length;
  }
});

test('the size doubles every 65,536 chunks, up to 8 MiB', () => {
  const chunker = new Chunker({ method: 'fixed', sizeBytes: 1 << 20 }, table);
  const bytes = { length: chunkMaxBytes } as Uint8Array;
  const sizes = new Set<number>();
  for (let i = 0; i < chunksPerSize * 5; i++) {
    const length = chunker.cut(bytes, 0, chunkMaxBytes);
    sizes.add(length);
    if (i === chunksPerSize - 1) assert.deepEqual([...sizes], [1 << 20]);
  }
  assert.deepEqual([...sizes], [1 << 20, 2 << 20, 4 << 20, 8 << 20]);
});

const kib = 1 << 10;
const gib = 1 << 30;

test('parameters of a first snapshot', () => {
  const cases: [Parameters<typeof chooseParameters>, string][] = [
    [['stream', undefined, undefined], 'gear:32768'],
    [['stream', 2 * gib, undefined], 'gear:32768'],
    [['stream', 2 * gib + 1, undefined], 'gear:65536'],
    [['stream', 1000 * gib, undefined], 'gear:1048576'],
    [['pages', 10, undefined], 'fixed:65536'],
    [['pages', 4 * gib, undefined], 'fixed:65536'],
    [['pages', 5 * gib, undefined], 'fixed:131072'],
    [['pages', 100_000 * gib, undefined], 'fixed:8388608'],
    [['large', 10, undefined], 'fixed:8388608'],
    [['small', 10, undefined], 'gear:1048576'],
  ];
  for (const [args, expected] of cases) {
    assert.equal(formatParameters(chooseParameters(...args)), expected, `${args[0]} ${args[1] ?? '?'}`);
  }
});

test('the parent snapshot decides until the artifact has outgrown it eight times over', () => {
  const previous = { chunking: 'gear:16384', sizeBytes: gib };
  const choose = (size: number | undefined, changed = {}): string =>
    formatParameters(chooseParameters('stream', size, { ...previous, ...changed }));
  assert.equal(choose(8 * gib), 'gear:16384');
  assert.equal(choose(8 * gib + 1), 'gear:262144');
  assert.equal(choose(undefined), 'gear:16384');
  assert.equal(choose(undefined, { sizeBytes: 9 * gib }), 'gear:262144');
  assert.equal(choose(1, { chunking: 'gear:65536' }), 'gear:65536', 'a shrunken one keeps its size too');
  assert.equal(choose(1, { chunking: 'fixed:65536' }), 'gear:32768', 'another method is no help');
  assert.equal(choose(1, { chunking: undefined }), 'gear:32768');
});

test('recorded parameters are read back, unknown ones are not', () => {
  const parameters: ChunkParameters = { method: 'fixed', sizeBytes: 64 * kib };
  assert.deepEqual(parseParameters(formatParameters(parameters)), parameters);
  for (const text of [
    undefined,
    '',
    'rabin:1048576',
    'gear:16385',
    'gear:8388608',
    'fixed:16777216',
    'gear:1',
  ]) {
    assert.equal(parseParameters(text), undefined, text);
  }
});
