import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { CorruptionError } from '../../model/errors.ts';
import { compressBlob, openBlob } from './blob-codec.ts';
import { SealingKey } from '../format/crypto.ts';
import { locatePackHeader, packSizeBytes, parsePackHeader } from '../format/pack.ts';
import { PackBuilder, packMaxBytes } from './pack-builder.ts';

const key = SealingKey.generate();
const idOf = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();
const text = Buffer.from('compressible text '.repeat(1000));

test('a pack says what is in it, and every blob opens from it', () => {
  const builder = new PackBuilder(key, 'data', 3);
  const buffer = Buffer.alloc(packMaxBytes);
  const blobs = [text, Buffer.alloc(0), randomBytes(200_000), Buffer.of(1)];
  for (const blob of blobs) builder.add(buffer, idOf(blob), blob, true);
  const pack = builder.finish(buffer);
  const file = buffer.subarray(0, pack.lengthBytes);
  assert.equal(pack.id, idOf(file).toString('hex'));
  assert.equal(packSizeBytes(pack.blobs), pack.lengthBytes);
  const { offsetBytes, lengthBytes } = locatePackHeader(file.subarray(-4), file.length, 'pack');
  const header = key.open(file.subarray(offsetBytes, offsetBytes + lengthBytes), 'header');
  assert.deepEqual(parsePackHeader(header, 'pack'), pack.blobs);
  for (const [i, { offsetBytes: at, lengthBytes: length, uncompressedBytes, id }] of pack.blobs.entries()) {
    const sealed = file.subarray(at, at + length);
    assert.deepEqual(openBlob(key, sealed, uncompressedBytes, Buffer.from(id, 'hex'), id), blobs[i]);
  }
  assert.deepEqual(
    pack.blobs.map(({ uncompressedBytes }) => uncompressedBytes),
    [text.length, undefined, undefined, undefined],
  );
  assert.ok(builder.isEmpty);
});

test('a pack is never longer than its buffer, whatever the blobs', () => {
  for (const blobBytes of [10_000, 3_000_000, 8 << 20]) {
    const builder = new PackBuilder(key, 'data', 0);
    const buffer = Buffer.alloc(packMaxBytes);
    const blob = randomBytes(blobBytes);
    while (!builder.isFullFor(blob.length)) builder.add(buffer, idOf(blob), blob, false);
    const { lengthBytes } = builder.finish(buffer);
    assert.ok(lengthBytes <= packMaxBytes && lengthBytes > packMaxBytes - 2 * blobBytes - 100_000);
  }
});

/** Bad memory: one bit of the ciphertext flips after the MAC was computed. */
class FlippingKey extends SealingKey {
  override sealInto(target: Buffer, plaintext: Uint8Array): number {
    const sealedBytes = super.sealInto(target, plaintext);
    const middle = sealedBytes >> 1;
    target[middle] = (target[middle] ?? 0) ^ 1;
    return sealedBytes;
  }
}

test('a blob damaged while it was sealed never gets into a pack', () => {
  const builder = new PackBuilder(new FlippingKey(key.material), 'data', 3);
  const buffer = Buffer.alloc(packMaxBytes);
  assert.throws(() => builder.add(buffer, idOf(text), text, true), CorruptionError);
});

test('a blob that is not what its id says never gets into a pack', () => {
  const builder = new PackBuilder(key, 'data', 3);
  assert.throws(
    () => builder.add(Buffer.alloc(packMaxBytes), idOf(Buffer.of(1)), text, true),
    CorruptionError,
  );
});

test('compression is kept where it helps', () => {
  assert.equal(compressBlob(text, 3).uncompressedBytes, text.length);
  assert.equal(compressBlob(text, 0).uncompressedBytes, undefined);
  assert.equal(compressBlob(Buffer.alloc(0), 3).uncompressedBytes, undefined);
  for (const length of [1, 1000, 200_000, 1 << 20]) {
    assert.equal(compressBlob(randomBytes(length), 3).uncompressedBytes, undefined, `${length} random bytes`);
  }
});

test('a compressed blob of another length than announced is refused', () => {
  const { bytes } = compressBlob(text, 3);
  const sealed = key.seal(bytes);
  for (const length of [1, text.length - 1, text.length + 1]) {
    assert.throws(() => openBlob(key, sealed, length, idOf(text), 'it'), CorruptionError);
  }
  assert.throws(() => openBlob(key, sealed, undefined, idOf(text), 'it'), CorruptionError);
  assert.throws(() => openBlob(key, key.seal(text), text.length, idOf(text), 'it'), CorruptionError);
});
