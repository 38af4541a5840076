import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FrameReader } from './frames.ts';

function frame(stream: number, text: string): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(stream, 0);
  header.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([header, Buffer.from(text)]);
}

test('frames are taken apart whatever pieces they arrive in, and a cut one is known', () => {
  const bytes = Buffer.concat([frame(1, 'out'), frame(2, ''), frame(2, 'errors'), frame(1, 'more')]);
  for (const size of [1, 3, 8, 9, bytes.length]) {
    const reader = new FrameReader();
    const texts = new Map<number, string>();
    for (let at = 0; at < bytes.length; at += size) {
      for (const { stream, bytes: part } of reader.read(bytes.subarray(at, at + size)))
        texts.set(stream, `${texts.get(stream) ?? ''}${part.toString()}`);
    }
    assert.deepEqual(Object.fromEntries(texts), { 1: 'outmore', 2: 'errors' });
    assert.equal(reader.isComplete, true);
  }
  for (const cut of [3, 8, 10]) {
    const reader = new FrameReader();
    Array.from(reader.read(bytes.subarray(0, cut)));
    assert.equal(reader.isComplete, false);
  }
});
