import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { ByteQueue } from './byte-queue.ts';

const pieceOf = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

test('bytes come out as they went in, however they are copied and dropped', () => {
  const bytes = randomBytes(100_000);
  const queue = new ByteQueue();
  for (let at = 0; at < bytes.length; at += 7777) queue.push(pieceOf(bytes.subarray(at, at + 7777)));
  const target = new Uint8Array(10_000);
  let at = 0;
  for (const step of [0, 1, 7776, 1, 7777, 9999, 10_000, 123]) {
    const copied = queue.copyTo(target);
    assert.equal(copied, target.length);
    assert.deepEqual(Buffer.from(target), bytes.subarray(at, at + copied));
    queue.drop(step);
    at += step;
    assert.equal(queue.lengthBytes, bytes.length - at);
  }
  const rest = new Uint8Array(queue.lengthBytes);
  assert.equal(queue.copyTo(rest), rest.length);
  assert.deepEqual(Buffer.from(rest), bytes.subarray(at));
  queue.drop(rest.length);
  assert.equal(queue.copyTo(target), 0);
});

test('memory of a dropped piece is given back, unless it is a part of something', () => {
  const queue = new ByteQueue();
  const own = pieceOf(randomBytes(10_000));
  const shared = pieceOf(randomBytes(20_000));
  queue.push(own);
  queue.push(shared.subarray(0, 10_000));
  queue.drop(9_999);
  assert.equal(own.byteLength, 10_000, 'not before all of it is dropped');
  queue.drop(10_001);
  assert.equal(own.byteLength, 0);
  assert.equal(shared.byteLength, 20_000);
});
