import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptionError } from '../../model/errors.ts';
import type { PruneLimits } from '../../ports/prune.ts';
import type { BlobType } from '../format/pack.ts';
import type { DamagedPacks } from './damage.ts';
import { decidePacks, keepAll, type RepositoryContent } from './plan.ts';
import type { PackContent } from './usage.ts';

const mebibyte = 1 << 20;
const headerBytes = 100;
const thorough: PruneLimits = { maxUnusedBytes: () => 0, maxRepackBytes: Number.POSITIVE_INFINITY };
const tolerant: PruneLimits = { ...thorough, maxUnusedBytes: () => Number.POSITIVE_INFINITY };

type Blobs = Readonly<Record<number, number>>;

/** A pack of blobs: their lengths by ordinal. */
function pack(id: string, blobs: Blobs, type: BlobType | 'mixed' = 'data'): PackContent {
  const entries = Object.entries(blobs).flatMap(([ordinal, lengthBytes]) => [Number(ordinal), lengthBytes]);
  const bodyBytes = Object.values(blobs).reduce((total, lengthBytes) => total + lengthBytes, 0);
  return { id, type, sizeBytes: bodyBytes + headerBytes, entries: Uint32Array.from(entries) };
}

function content(
  packs: readonly PackContent[],
  used: readonly number[],
  files: ReadonlyMap<string, number> = new Map(packs.map(({ id, sizeBytes }) => [id, sizeBytes])),
  damaged: DamagedPacks = new Map(),
): RepositoryContent {
  const marks = new Uint8Array(1000);
  for (const ordinal of used) marks[ordinal] = 1;
  return { packs: new Map(packs.map((one) => [one.id, one])), files, used: marks, damaged, snapshots: 1 };
}

const sorted = (ids: ReadonlySet<string>): string[] => [...ids].sort();

test('what nothing needs goes, what is partly needed is repacked, the rest stays', () => {
  const packs = [
    pack('kept', { 1: 5 * mebibyte }),
    pack('partly', { 2: 5 * mebibyte, 3: 7 }),
    pack('gone', { 4: 9 }),
  ];
  const { remove, repack, unindexed, report } = decidePacks(content(packs, [1, 2]), thorough);
  assert.deepEqual([sorted(remove), sorted(repack), sorted(unindexed)], [['gone'], ['partly'], []]);
  assert.deepEqual(report.packs, { keep: 1, repack: 1, remove: 1, unindexed: 0 });
  assert.equal(report.freedBytes, 9 + headerBytes + 7);
  assert.equal(report.unusedBytes, 16);
  assert.equal(report.remainingUnusedBytes, 0);
});

test('packs of trees and small ones are repacked whatever may stay, large ones of data are not', () => {
  const packs = [
    pack('trees', { 1: 5 * mebibyte, 2: 1 }, 'tree'),
    pack('small', { 3: 10, 4: 1 }),
    pack('large', { 5: 5 * mebibyte, 6: mebibyte }),
    pack('mixed', { 7: 5 * mebibyte }, 'mixed'),
  ];
  const { repack, report } = decidePacks(content(packs, [1, 3, 5, 7]), tolerant);
  assert.deepEqual(sorted(repack), ['mixed', 'small', 'trees']);
  assert.equal(report.remainingUnusedBytes, mebibyte);
});

test('repacking ends when so little is unused as may be, the most wasteful first', () => {
  const packs = [1, 2, 3].map((n) => pack(`p${n}`, { [n]: 9 * mebibyte, [n + 10]: n * mebibyte }));
  const upTo = (maxBytes: number): string[] =>
    sorted(decidePacks(content(packs, [1, 2, 3]), { ...thorough, maxUnusedBytes: () => maxBytes }).repack);
  assert.deepEqual(upTo(6 * mebibyte + 1), []);
  assert.deepEqual(upTo(6 * mebibyte), ['p3']);
  assert.deepEqual(upTo(mebibyte + 1), ['p2', 'p3']);
  assert.deepEqual(upTo(0), ['p1', 'p2', 'p3']);
  const limited = { ...thorough, maxRepackBytes: 13 * mebibyte };
  assert.deepEqual(sorted(decidePacks(content(packs, [1, 2, 3]), limited).repack), ['p3']);
  assert.equal(decidePacks(content(packs, [1, 2, 3]), { ...thorough, maxRepackBytes: 0 }).repack.size, 0);
});

test('small packs that are all used are put together when there are ten', () => {
  const small = (count: number): PackContent[] =>
    Array.from({ length: count }, (_, i) => pack(`s${i}`, { [i]: 1000 }));
  const all = Array.from({ length: 10 }, (_, i) => i);
  assert.equal(decidePacks(content(small(9), all), tolerant).repack.size, 0);
  assert.equal(decidePacks(content(small(10), all), tolerant).repack.size, 10);
});

test('of a blob that is there several times one copy counts', () => {
  const packs = [
    pack('old', { 1: 10, 2: 20 }),
    pack('older', { 1: 10, 3: 30 }),
    // What an interrupted prune had made of those.
    pack('new', { 1: 10 }),
  ];
  for (const order of [packs, packs.toReversed()]) {
    const { remove, repack, report } = decidePacks(content(order, [1]), thorough);
    assert.deepEqual([sorted(remove), sorted(repack)], [['old', 'older'], []]);
    assert.equal(report.unusedBytes, 20 + 30 + 10 + 10);
  }
  const beside = decidePacks(content([pack('a', { 1: 10 }), pack('b', { 1: 10, 2: 20 })], [1, 2]), thorough);
  assert.equal(beside.remove.size + beside.repack.size, 1);
});

test('packs that are gone matter only when something is needed of them', () => {
  const packs = [pack('there', { 1: 10 }), pack('gone', { 1: 10, 2: 20 })];
  const files = new Map([
    ['there', 10 + headerBytes],
    ['stray', 5],
  ]);
  const { vanished, unindexed, remove } = decidePacks(content(packs, [1], files), thorough);
  assert.deepEqual([sorted(vanished), sorted(unindexed), sorted(remove)], [['gone'], ['stray'], []]);
  assert.throws(() => decidePacks(content(packs, [1, 2], files), thorough), CorruptionError);
});

test('of a damaged pack what is needed and whole is moved, once; it goes when nothing is, and stays when that is lost', () => {
  const packs = [
    pack('kept', { 1: 10 }),
    pack('bad', { 1: 10, 2: 20, 3: 30 }),
    pack('worse', { 2: 20, 3: 30 }),
  ];
  const decide = (used: number[], limits = thorough) => {
    const damaged = new Map([
      ['bad', new Set([1, 3])],
      ['worse', new Set([3])],
    ]);
    const { remove, repack } = decidePacks(content(packs, used, undefined, damaged), limits);
    return [sorted(remove), sorted(repack)];
  };
  assert.deepEqual(decide([1]), [['bad', 'worse'], []]);
  assert.deepEqual(decide([1, 2]), [['worse'], ['bad']]);
  assert.deepEqual(decide([1, 2], tolerant), [['worse'], ['bad']], 'however much may stay unused');
  assert.deepEqual(decide([1, 2], { ...thorough, maxRepackBytes: 0 }), [['worse'], []]);
  assert.throws(() => decide([1, 3]), /Pack bad is damaged, and snapshots need data that only this pack had/);
});

test('without a snapshot all of it stays', () => {
  const decisions = keepAll(content([pack('a', { 1: 10 })], [], new Map([['stray', 5]])));
  for (const ids of [decisions.remove, decisions.repack, decisions.vanished, decisions.unindexed]) {
    assert.equal(ids.size, 0);
  }
});
