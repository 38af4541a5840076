import { CorruptionError, TarsError } from '../model/errors.ts';
import { throwIfAborted } from './abort.ts';
import { openBlob } from './blob-codec.ts';
import type { BlobIndex, BlobLocation } from './blob-index.ts';
import type { BlobType } from './format/pack.ts';
import type { OpenedRepository } from './open.ts';

/** Neighbouring blobs of a pack are read together, up to so many bytes at a time. */
const rangeMaxBytes = 8 << 20;
/** A gap this small between two wanted blobs is cheaper to read than to skip. */
const gapMaxBytes = 32 << 10;
const idBytes = 32;
const damageHint = 'Run `tars check --read-data` to see what is damaged; other snapshots may be whole.';

interface WantedBlob {
  readonly id: Buffer;
  readonly location: BlobLocation;
}

/** Blobs that lie one behind the other in one pack, in the order they are wanted. */
interface BlobRange {
  readonly packId: string;
  readonly offsetBytes: number;
  readonly endBytes: number;
  readonly blobs: readonly WantedBlob[];
}

/** Reads blobs. Each is authenticated and compared with its id before anybody sees its bytes. */
export class BlobReader {
  readonly #repository: OpenedRepository;
  readonly #index: BlobIndex;

  constructor(repository: OpenedRepository, index: BlobIndex) {
    this.#repository = repository;
    this.#index = index;
  }

  /** @throws CorruptionError when the blob is missing or damaged */
  async read(id: Uint8Array, type: BlobType, signal: AbortSignal): Promise<Buffer> {
    const location = this.#locate(Buffer.from(id), type);
    const sealed = await this.#load(location.packId, location.offsetBytes, location.lengthBytes, signal);
    return this.#open(sealed, { id: Buffer.from(id), location });
  }

  /** True when every blob of a file's content is in the index. */
  hasAll(content: Buffer): boolean {
    for (let at = 0; at < content.length; at += idBytes) {
      if (!this.#index.lookup(content.subarray(at, at + idBytes), 'data')) return false;
    }
    return true;
  }

  /**
   * A file's content, blob by blob; while one range is consumed the next one is being read. That all blobs are in
   * the index is checked first.
   * @param content 32 bytes for each blob
   * @throws CorruptionError
   */
  async *readContent(content: Buffer, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < content.length; at += idBytes) {
      this.#locate(content.subarray(at, at + idBytes), 'data');
    }
    const ranges = this.#ranges(content);
    let next = this.#startLoad(ranges, signal);
    let repeated: { readonly id: Buffer; readonly plaintext: Buffer } | undefined;
    while (next) {
      const { range, sealed } = next;
      const bytes = await sealed;
      next = this.#startLoad(ranges, signal);
      for (const blob of range.blobs) {
        throwIfAborted(signal);
        // Sparse files repeat one blob of zeros.
        if (!repeated?.id.equals(blob.id)) {
          const start = blob.location.offsetBytes - range.offsetBytes;
          const plaintext = this.#open(bytes.subarray(start, start + blob.location.lengthBytes), blob);
          repeated = { id: blob.id, plaintext };
        }
        yield repeated.plaintext;
      }
    }
  }

  #startLoad(
    ranges: Iterator<BlobRange, undefined>,
    signal: AbortSignal,
  ): { readonly range: BlobRange; readonly sealed: Promise<Uint8Array> } | undefined {
    const step = ranges.next();
    if (step.done === true) return undefined;
    const range = step.value;
    const sealed = this.#load(range.packId, range.offsetBytes, range.endBytes - range.offsetBytes, signal);
    // The consumer may stop before it gets here.
    sealed.catch(() => undefined);
    return { range, sealed };
  }

  *#ranges(content: Buffer): Generator<BlobRange, undefined> {
    let blobs: WantedBlob[] = [];
    let start = 0;
    let end = 0;
    for (let at = 0; at < content.length; at += idBytes) {
      const id = content.subarray(at, at + idBytes);
      const location = this.#locate(id, 'data');
      const last = blobs.at(-1);
      if (last && !continues(last, { id, location }, start, end)) {
        yield { packId: last.location.packId, offsetBytes: start, endBytes: end, blobs };
        blobs = [];
      }
      if (blobs.length === 0) start = location.offsetBytes;
      end = location.offsetBytes + location.lengthBytes;
      blobs.push({ id, location });
    }
    const last = blobs.at(-1);
    if (last) yield { packId: last.location.packId, offsetBytes: start, endBytes: end, blobs };
    return undefined;
  }

  #locate(id: Buffer, type: BlobType): BlobLocation {
    const location = this.#index.lookup(id, type);
    if (location) return location;
    throw new CorruptionError(`The ${type} blob ${id.toString('hex')} is missing from the repository`, {
      hint: damageHint,
    });
  }

  /** A pack that an index refers to and that is gone is damage, as one with wrong bytes is. */

  async #load(
    packId: string,
    offsetBytes: number,
    lengthBytes: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const file = { type: 'data', name: packId } as const;
    try {
      return await this.#repository.storage.load(file, { offsetBytes, lengthBytes }, signal);
    } catch (cause) {
      if (!(cause instanceof TarsError) || cause.code !== 'storage-not-found') throw cause;
      throw new CorruptionError(`Pack ${packId} is missing from the repository`, { hint: damageHint, cause });
    }
  }

  #open(sealed: Uint8Array, { id, location }: WantedBlob): Buffer {
    const what = `blob ${id.toString('hex')} in pack ${location.packId}`;
    return openBlob(this.#repository.crypto, sealed, location.uncompressedBytes, id, what);
  }
}

function continues(last: WantedBlob, next: WantedBlob, start: number, end: number): boolean {
  if (last.id.equals(next.id)) return true;
  const { packId, offsetBytes, lengthBytes } = next.location;
  return (
    packId === last.location.packId &&
    offsetBytes >= end &&
    offsetBytes - end <= gapMaxBytes &&
    offsetBytes + lengthBytes - start <= rangeMaxBytes
  );
}
