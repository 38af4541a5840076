import { CorruptionError, TarsError } from '../model/errors.ts';
import { throwIfAborted } from './abort.ts';
import { openBlob } from './blob-codec.ts';
import type { BlobIndex, BlobLocation } from './blob-index.ts';
import { groupIntoRanges, type BlobRange, type WantedBlob } from './blob-ranges.ts';
import type { BlobType } from './format/pack.ts';
import type { OpenedRepository } from './open.ts';
import { PackWindows, type PackRange } from './pack-windows.ts';

const idBytes = 32;
const damageHint = 'Run `tars check --read-data` to see what is damaged; other snapshots may be whole.';

/** Reads blobs. Each is authenticated and compared with its id before anybody sees its bytes. */
export class BlobReader {
  readonly #repository: OpenedRepository;
  readonly #index: BlobIndex;
  readonly #windows = new PackWindows((range, signal) => this.#loadRange(range, signal));

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
    const ranges = groupIntoRanges(this.#wanted(content));
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

  *#wanted(content: Buffer): Generator<WantedBlob> {
    for (let at = 0; at < content.length; at += idBytes) {
      const id = content.subarray(at, at + idBytes);
      yield { id, location: this.#locate(id, 'data') };
    }
  }

  #locate(id: Buffer, type: BlobType): BlobLocation {
    const location = this.#index.lookup(id, type);
    if (location) return location;
    throw new CorruptionError(`The ${type} blob ${id.toString('hex')} is missing from the repository`, {
      hint: damageHint,
    });
  }

  #load(packId: string, offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    const range = { packId, offsetBytes, lengthBytes };
    return this.#windows.read(range, this.#index.packEndBytes(packId), signal);
  }

  /** A pack that an index refers to and that is gone is damage, as one with wrong bytes is. */
  async #loadRange(
    { packId, offsetBytes, lengthBytes }: PackRange,
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
