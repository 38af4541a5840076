import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, zstdCompressSync } from 'node:zlib';
import { CorruptionError } from '../model/errors.ts';
import { cutAtFrames } from './zstd-frames.ts';

const checksummed = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
const frames = [
  zstdCompressSync(Buffer.from('one')),
  zstdCompressSync(Buffer.alloc(0), checksummed),
  zstdCompressSync(Buffer.alloc(300_000, 'repeated '), checksummed),
  zstdCompressSync(Buffer.alloc(400_000)),
  zstdCompressSync(Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * i * 31) >> 3)), checksummed),
];
const whole = Buffer.concat(frames);

// eslint-disable-next-line @typescript-eslint/require-await -- the bytes are there
async function* inChunks(bytes: Buffer, chunkBytes: number): AsyncIterable<Buffer> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

async function cut(bytes: Buffer, chunkBytes: number): Promise<number[]> {
  const ends: number[] = [];
  let at = 0;
  for await (const chunk of cutAtFrames(inChunks(bytes, chunkBytes))) ends.push((at += chunk.length));
  assert.equal(at, bytes.length);
  return ends;
}

for (const chunkBytes of [1, 2, 3, 17, 1000, whole.length]) {
  test(`frames in chunks of ${chunkBytes} bytes are cut at every end`, async () => {
    const ends = new Set(await cut(whole, chunkBytes));
    let at = 0;
    for (const frame of frames) assert.ok(ends.has((at += frame.length)), `end at ${at}`);
    if (chunkBytes === whole.length) assert.equal(ends.size, frames.length);
  });
}

test('truncation anywhere inside a frame, and foreign bytes between frames, are corruption', async () => {
  const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = frames;
  for (let length = 1; length < first.length; length++) {
    await assert.rejects(cut(first.subarray(0, length), 5), CorruptionError);
  }
  await assert.rejects(cut(Buffer.concat([first, Buffer.from('foreign'), second]), 5), CorruptionError);
});
