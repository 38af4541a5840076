import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { BlobIndex } from './blob-index.ts';
import type { PackedBlob } from '../format/pack.ts';

const idOf = (number: number): Buffer => createHash('sha256').update(String(number)).digest();
const packId = (number: number): string => idOf(-number - 1).toString('hex');

function blob(number: number, changed: Partial<PackedBlob> = {}): PackedBlob {
  return {
    id: idOf(number).toString('hex'),
    type: 'data',
    offsetBytes: number,
    lengthBytes: number + 40,
    uncompressedBytes: number % 2 === 0 ? number + 99 : undefined,
    ...changed,
  };
}

test('every blob of many is found where it is, and no other', () => {
  const index = new BlobIndex();
  const count = 100_000;
  for (let first = 0; first < count; first += 1000) {
    const blobs = Array.from({ length: 1000 }, (_, i) => blob(first + i));
    index.addPack({ id: packId(first), blobs });
  }
  assert.equal(index.size, count);
  for (let number = 0; number < count; number += 7) {
    const { offsetBytes, lengthBytes, uncompressedBytes } = blob(number);
    const expected = {
      packId: packId(number - (number % 1000)),
      offsetBytes,
      lengthBytes,
      uncompressedBytes,
    };
    assert.deepEqual(index.lookup(idOf(number), 'data'), expected);
    assert.equal(index.has(idOf(number + count), 'data'), false);
  }
});

test('ids that share their hash are told apart to the last byte', () => {
  const index = new BlobIndex();
  const ids = Array.from({ length: 600 }, (_, i) => {
    const id = Buffer.alloc(32, 9);
    id.writeUInt16LE(i, 30);
    return id;
  });
  const blobs = ids.map((id, i) => blob(i, { id: id.toString('hex') }));
  index.addPack({ id: packId(0), blobs });
  for (const [i, id] of ids.entries()) assert.equal(index.lookup(id, 'data')?.offsetBytes, i);
});

test('a tree and a data blob of the same id are two blobs', () => {
  const index = new BlobIndex();
  index.addPack({ id: packId(0), blobs: [blob(1, { type: 'tree' })] });
  assert.equal(index.has(idOf(1), 'data'), false);
  assert.equal(index.lookup(idOf(1), 'tree')?.packId, packId(0));
  index.addPack({ id: packId(1), blobs: [blob(1)] });
  assert.equal(index.lookup(idOf(1), 'data')?.packId, packId(1));
  assert.equal(index.lookup(idOf(1), 'tree')?.packId, packId(0));
});

test('an announced blob is known, and found once its pack is', () => {
  const index = new BlobIndex();
  assert.equal(index.announce(idOf(1), 'data'), true);
  assert.equal(index.announce(idOf(1), 'data'), false);
  assert.equal(index.has(idOf(1), 'data'), true);
  assert.equal(index.lookup(idOf(1), 'data'), undefined);
  index.addPack({ id: packId(0), blobs: [blob(1)] });
  assert.equal(index.lookup(idOf(1), 'data')?.packId, packId(0));
  assert.equal(index.announce(idOf(1), 'data'), false);
});

test('of two packs with the same blob the first counts', () => {
  const index = new BlobIndex();
  for (const number of [0, 1]) index.addPack({ id: packId(number), blobs: [blob(5)] });
  assert.equal(index.size, 1);
  assert.equal(index.lookup(idOf(5), 'data')?.packId, packId(0));
});

test('offsets and lengths of 32 bits survive', () => {
  const index = new BlobIndex();
  const big = { offsetBytes: 0xffff_fffe, lengthBytes: 0xffff_fffd, uncompressedBytes: 0xffff_fffc };
  index.addPack({ id: packId(0), blobs: [blob(1, big)] });
  assert.deepEqual(index.lookup(idOf(1), 'data'), { packId: packId(0), ...big });
});

test('a million blobs take less than 80 MB', () => {
  const before = process.memoryUsage().arrayBuffers;
  const index = new BlobIndex();
  const id = Buffer.alloc(32);
  for (let number = 0; number < 1_000_000; number++) {
    // Spread like a hash, without the cost of one.
    id.writeUInt32LE(Math.imul(number, 0x9e37_79b1) >>> 0, 0);
    id.writeUInt32LE(number, 4);
    index.announce(id, 'data');
  }
  assert.equal(index.size, 1_000_000);
  assert.ok(process.memoryUsage().arrayBuffers - before < 80e6);
});
