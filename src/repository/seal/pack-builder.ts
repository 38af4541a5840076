import { createHash } from 'node:crypto';
import { CorruptionError } from '../../model/errors.ts';
import { compressBlob, verifyBlob } from './blob-codec.ts';
import { freeBuffer } from './free-buffer.ts';
import type { SealingKey } from '../format/crypto.ts';
import { sealOverheadBytes } from '../format/crypto.ts';
import {
  encodePackTrailer,
  headerEntryBytes,
  packOverheadBytes,
  packHeaderBlobs,
  type BlobType,
  type PackedBlob,
} from '../format/pack.ts';

/** No pack is larger. restic's default target, too. */
export const packMaxBytes = 16 << 20;

/** A pack ready to be stored. */
export interface FinishedPack {
  /** SHA-256 of the file, 64 hex digits. */
  readonly id: string;
  readonly blobs: readonly PackedBlob[];
  readonly lengthBytes: number;
}

/**
 * Fills one pack after another in a buffer of {@link packMaxBytes}. Every blob is opened again from the place it
 * has in the pack and compared with its id: bad memory must not become a bad backup (restic's issue 4523).
 */
export class PackBuilder {
  readonly #key: SealingKey;
  readonly #type: BlobType;
  readonly #level: number;
  #blobs: PackedBlob[] = [];
  #usedBytes = 0;

  /** @param level zstd's; 0 for none */
  constructor(key: SealingKey, type: BlobType, level: number) {
    this.#key = key;
    this.#type = type;
    this.#level = level;
  }

  get isEmpty(): boolean {
    return this.#blobs.length === 0;
  }

  /** True when a blob of this length might not fit any more. A single blob always fits an empty pack. */
  isFullFor(plaintextBytes: number): boolean {
    const headerBytes = (this.#blobs.length + 1) * headerEntryBytes(true) + packOverheadBytes;
    const needed = this.#usedBytes + plaintextBytes + sealOverheadBytes + headerBytes;
    return needed > packMaxBytes && !this.isEmpty;
  }

  /**
   * Seals a blob into `buffer` behind those already there.
   * @throws CorruptionError when what was sealed does not open to what it was
   */
  add(buffer: Buffer, id: Uint8Array, plaintext: Uint8Array, compress: boolean): void {
    const { bytes, uncompressedBytes } = compressBlob(plaintext, compress ? this.#level : 0);
    const end = this.#usedBytes + this.#key.sealInto(buffer.subarray(this.#usedBytes), bytes);
    if (bytes !== plaintext) freeBuffer(bytes);
    const hexId = Buffer.from(id).toString('hex');
    this.#take(buffer, hexId, end, uncompressedBytes, `blob ${hexId} just sealed`);
  }

  /**
   * Copies a blob that is sealed already to `buffer`, behind those already there.
   * @throws CorruptionError when it does not open to what its id says; it is not in the pack then
   */
  addSealed(
    buffer: Buffer,
    blob: Pick<PackedBlob, 'id' | 'uncompressedBytes'>,
    sealed: Uint8Array,
    what: string,
  ): void {
    buffer.set(sealed, this.#usedBytes);
    this.#take(buffer, blob.id, this.#usedBytes + sealed.length, blob.uncompressedBytes, what);
  }

  #take(buffer: Buffer, id: string, end: number, uncompressedBytes: number | undefined, what: string): void {
    const offsetBytes = this.#usedBytes;
    const sealed = buffer.subarray(offsetBytes, end);
    verifyBlob(this.#key, sealed, uncompressedBytes, Buffer.from(id, 'hex'), what);
    this.#usedBytes = end;
    this.#blobs.push({ id, type: this.#type, offsetBytes, lengthBytes: sealed.length, uncompressedBytes });
  }

  /** Writes the header behind the blobs in `buffer` and starts over. */
  finish(buffer: Buffer): FinishedPack {
    const blobs = this.#blobs;
    const trailer = encodePackTrailer(blobs, this.#key);
    const header = this.#key.open(trailer.subarray(0, -4), 'the pack header just sealed');
    if (!describes(header, blobs)) {
      throw new CorruptionError('A pack header was damaged while it was built', {
        hint: 'Check the memory of this machine.',
      });
    }
    buffer.set(trailer, this.#usedBytes);
    const lengthBytes = this.#usedBytes + trailer.length;
    const id = createHash('sha256').update(buffer.subarray(0, lengthBytes)).digest('hex');
    this.#blobs = [];
    this.#usedBytes = 0;
    return { id, blobs, lengthBytes };
  }
}

/** Whether a reader finds exactly these blobs in the header. */
function describes(header: Buffer, blobs: readonly PackedBlob[]): boolean {
  let count = 0;
  for (const found of packHeaderBlobs(header, 'pack just built')) {
    const blob = blobs[count++];
    const isSame =
      found.id === blob?.id &&
      found.type === blob.type &&
      found.offsetBytes === blob.offsetBytes &&
      found.lengthBytes === blob.lengthBytes &&
      found.uncompressedBytes === blob.uncompressedBytes;
    if (!isSame) return false;
  }
  return count === blobs.length;
}
