import { createHash, type Hash } from 'node:crypto';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { CorruptionError } from '../../model/errors.ts';
import type { SealingKey } from '../format/crypto.ts';
import { freeBuffer } from './free-buffer.ts';

/** Where compression stops paying: below this share saved, the bytes are kept as they are. */
const worthwhileShare = 0.98;
/** Larger blobs are probed before they are compressed in full. */
const probeFromBytes = 128 << 10;
const probeBytes = 32 << 10;
const probeLevel = 1;

/** What the plaintext of a sealed blob is: compressed, or the bytes themselves. */
interface BlobPayload {
  readonly bytes: Uint8Array;
  /** Undefined when `bytes` is the blob as it is. */
  readonly uncompressedBytes: number | undefined;
}

/**
 * Compresses a blob when that makes it smaller. An empty blob never is: its uncompressed length of 0 would say that
 * it is not compressed.
 * @param level zstd's; 0 for none
 */
export function compressBlob(plaintext: Uint8Array, level: number): BlobPayload {
  const raw = { bytes: plaintext, uncompressedBytes: undefined };
  if (level === 0 || plaintext.length === 0 || isIncompressible(plaintext)) return raw;
  const compressed = compress(plaintext, level);
  if (compressed.length > plaintext.length * worthwhileShare) {
    freeBuffer(compressed);
    return raw;
  }
  return { bytes: compressed, uncompressedBytes: plaintext.length };
}

function isIncompressible(plaintext: Uint8Array): boolean {
  if (plaintext.length < probeFromBytes) return false;
  const middle = plaintext.length >> 1;
  const probe = compress(plaintext.subarray(middle, middle + probeBytes), probeLevel);
  const probeLength = probe.length;
  freeBuffer(probe);
  return probeLength > probeBytes * worthwhileShare;
}

function compress(plaintext: Uint8Array, level: number): Uint8Array {
  return zstdCompressSync(plaintext, {
    // One output buffer instead of many small ones.
    chunkSize: plaintext.length + 64,
    params: { [constants.ZSTD_c_compressionLevel]: level },
  });
}

/**
 * Opens a sealed blob: authenticates, decrypts, decompresses and compares with its id.
 * @param id the SHA-256 the plaintext must have
 * @throws CorruptionError
 */
export function openBlob(
  key: SealingKey,
  sealed: Uint8Array,
  uncompressedBytes: number | undefined,
  id: Uint8Array,
  what: string,
): Buffer {
  const payload = key.open(sealed, what);
  const plaintext = uncompressedBytes === undefined ? payload : decompress(payload, uncompressedBytes, what);
  requireId(createHash('sha256').update(plaintext), id, what);
  return plaintext;
}

/**
 * Opens a sealed blob as {@link openBlob} does, and keeps nothing of it: an uncompressed one is never whole in memory.
 * @throws CorruptionError
 */
export function verifyBlob(
  key: SealingKey,
  sealed: Uint8Array,
  uncompressedBytes: number | undefined,
  id: Uint8Array,
  what: string,
): void {
  if (uncompressedBytes !== undefined) {
    freeBuffer(openBlob(key, sealed, uncompressedBytes, id, what));
    return;
  }
  const hash = createHash('sha256');
  for (const piece of key.openPieces(sealed, what)) {
    hash.update(piece);
    freeBuffer(piece);
  }
  requireId(hash, id, what);
}

function requireId(hash: Hash, id: Uint8Array, what: string): void {
  if (!hash.digest().equals(id)) throw new CorruptionError(`The content of ${what} does not match its id`);
}

function decompress(payload: Buffer, uncompressedBytes: number, what: string): Buffer {
  let plaintext: Buffer;
  try {
    plaintext = zstdDecompressSync(payload, {
      // One output buffer, and not quite filled: a full one makes zlib allocate another for what may follow.
      chunkSize: uncompressedBytes + 64,
      maxOutputLength: Math.max(uncompressedBytes, 1),
    });
    freeBuffer(payload);
  } catch (cause) {
    throw new CorruptionError(`The ${what} cannot be decompressed`, { cause });
  }
  if (plaintext.length !== uncompressedBytes) {
    throw new CorruptionError(
      `The ${what} decompresses to ${plaintext.length} bytes, and its index says ${uncompressedBytes}`,
    );
  }
  return plaintext;
}
