import { throwIfAborted } from '../../model/abort.ts';
import { CorruptionError, TarsError } from '../../model/errors.ts';
import { openBlob } from '../seal/blob-codec.ts';
import type { BlobIndex, BlobLocation } from './blob-index.ts';
import { FurtherCopies } from './further-copies.ts';
import { groupIntoRanges, type BlobRange, type WantedBlob } from './blob-ranges.ts';
import type { BlobType } from '../format/pack.ts';
import type { OpenedRepository } from '../open.ts';
import { PackWindows, type PackRange } from './pack-windows.ts';

const idBytes = 32;
const damageHint = 'Run `tars check --read-data` to see what is damaged; other snapshots may be undamaged.';

/**
 * Reads blobs. Each is authenticated and compared with its id before anybody sees its bytes. Where one copy is missing
 * or damaged, another one serves.
 */
export class BlobReader {
  readonly #repository: OpenedRepository;
  readonly #index: BlobIndex;
  readonly #trusted: BlobIndex;
  #copies: Promise<FurtherCopies> | undefined;
  readonly #windows = new PackWindows((range, signal) => this.#loadRange(range, signal));

  /** @param trusted what {@link hasAll} goes by */
  constructor(repository: OpenedRepository, index: BlobIndex, trusted = index) {
    this.#trusted = trusted;
    this.#repository = repository;
    this.#index = index;
  }

  /** @throws CorruptionError when the blob is missing or damaged */
  async read(id: Uint8Array, type: BlobType, signal: AbortSignal): Promise<Buffer> {
    const blob = { id: Buffer.from(id), location: this.#locate(Buffer.from(id), type) };
    try {
      return await this.#readAt(blob, signal);
    } catch (error) {
      return await this.#readElsewhere(blob, type, error, signal);
    }
  }

  /** True when a new snapshot may rely on every blob of a file's content. */
  hasAll(content: Buffer): boolean {
    for (let at = 0; at < content.length; at += idBytes) {
      if (!this.#trusted.lookup(content.subarray(at, at + idBytes), 'data')) return false;
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
      const bytes = await sealed.catch((error: unknown) => requireDamage(error));
      next = this.#startLoad(ranges, signal);
      for (const blob of range.blobs) {
        throwIfAborted(signal);
        // Sparse files repeat one blob of zeros.
        if (!repeated?.id.equals(blob.id)) {
          const plaintext = await this.#openInRange(bytes, range, blob, signal);
          repeated = { id: blob.id, plaintext };
        }
        yield repeated.plaintext;
      }
    }
  }

  /** @param bytes of the range, or why it could not be read whole: then each blob is read by itself */
  async #openInRange(
    bytes: Uint8Array | CorruptionError,
    range: BlobRange,
    blob: WantedBlob,
    signal: AbortSignal,
  ): Promise<Buffer> {
    try {
      if (bytes instanceof CorruptionError) return await this.#readAt(blob, signal);
      const start = blob.location.offsetBytes - range.offsetBytes;
      return this.#open(bytes.subarray(start, start + blob.location.lengthBytes), blob);
    } catch (error) {
      return await this.#readElsewhere(blob, 'data', error, signal);
    }
  }

  async #readAt(blob: WantedBlob, signal: AbortSignal): Promise<Buffer> {
    const { packId, offsetBytes, lengthBytes } = blob.location;
    return this.#open(await this.#load(packId, offsetBytes, lengthBytes, signal), blob);
  }

  /** @throws TarsError `failure` when there is no sound copy */
  async #readElsewhere(
    { id }: WantedBlob,
    type: BlobType,
    failure: unknown,
    signal: AbortSignal,
  ): Promise<Buffer> {
    requireDamage(failure);
    // One that failed is tried again by the next.
    this.#copies ??= this.#findCopies(signal).catch((error: unknown) => {
      this.#copies = undefined;
      throw error;
    });
    for (const location of (await this.#copies).of(id, type)) {
      try {
        return await this.#readAt({ id, location }, signal);
      } catch (error) {
        requireDamage(error);
      }
    }
    throw failure;
  }

  async #findCopies(signal: AbortSignal): Promise<FurtherCopies> {
    const listed = this.#repository.storage.list('index', signal);
    const names = await Array.fromAsync(listed, ({ name }) => name);
    return FurtherCopies.load(this.#repository, this.#index, names, signal);
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

/** What is no damage, such as a disk that does not answer, is no reason to look elsewhere. @throws whatever else it is */
function requireDamage(error: unknown): CorruptionError {
  if (error instanceof CorruptionError) return error;
  throw error;
}
