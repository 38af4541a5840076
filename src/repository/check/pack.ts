import { createHash } from 'node:crypto';
import { CorruptionError } from '../../model/errors.ts';
import { verifyBlob } from '../seal/blob-codec.ts';
import type { SealingKey } from '../format/crypto.ts';
import { locatePackHeader, parsePackHeader, type BlobType, type PackedBlob } from '../format/pack.ts';

/** Bytes read at a time, when no single blob is larger. */
const windowBytes = 4 << 20;
/** A header of 16 MiB lists 400,000 blobs; restic accepts no larger one (`internal/repository/pack/pack.go`). */
const trailerMaxBytes = 17 << 20;

/** A pack and what an index says of it. */
export interface PackToVerify {
  readonly id: string;
  /** The size of the file. */
  readonly sizeBytes: number;
  /** By offset. */
  readonly blobs: readonly PackedBlob[];
  /** The entries are only some of the pack's, so that gaps between them mean nothing. */
  readonly partial: boolean;
}

/** A consecutive part of a pack with the blobs that lie wholly within it. */
export interface PackWindow {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly blobs: readonly PackedBlob[];
}

/** A blob that a pack was to hold and does not; `id` in hex. */
export interface DamagedBlob {
  readonly id: string;
  readonly type: BlobType;
}

/** What is wrong with a pack; nothing when `problems` is empty. */
export interface PackVerdict {
  readonly problems: readonly string[];
  readonly damaged: readonly DamagedBlob[];
}

/** How a pack is read in bounded memory: windows from the first byte to the last, cut at the ends of blobs. */
export function planWindows(pack: PackToVerify): PackWindow[] {
  const windows: PackWindow[] = [];
  let start = 0;
  let end = 0;
  let blobs: PackedBlob[] = [];
  const close = (): void => {
    if (end > start) windows.push({ offsetBytes: start, lengthBytes: end - start, blobs });
    start = end;
    blobs = [];
  };
  const passOver = (to: number): void => {
    while (end < to) {
      end = Math.min(to, end + windowBytes);
      if (end - start >= windowBytes) close();
    }
  };
  for (const blob of pack.blobs) {
    if (!isPlaced(blob, end, pack.sizeBytes)) continue;
    passOver(blob.offsetBytes);
    if (end - start + blob.lengthBytes > windowBytes) close();
    end = blob.offsetBytes + blob.lengthBytes;
    blobs.push(blob);
  }
  close();
  passOver(pack.sizeBytes);
  close();
  return windows;
}

/** Lies behind what came before and within the file. */
function isPlaced(blob: PackedBlob, earliestBytes: number, sizeBytes: number): boolean {
  return blob.offsetBytes >= earliestBytes && blob.offsetBytes + blob.lengthBytes <= sizeBytes;
}

/**
 * Verifies one pack from its windows, fed in order: the file's hash, every blob (authenticated, decompressed,
 * hashed), the header against the index. Synchronous, so that it runs in a thread as well.
 */
export class PackVerifier {
  readonly #pack: PackToVerify;
  readonly #key: SealingKey;
  readonly #hash = createHash('sha256');
  readonly #problems: string[] = [];
  readonly #damaged: DamagedBlob[] = [];
  readonly #bodyEndBytes: number;
  readonly #trailer: Uint8Array[] = [];

  constructor(pack: PackToVerify, key: SealingKey) {
    this.#pack = pack;
    this.#key = key;
    this.#bodyEndBytes = this.#examinePlaces();
  }

  feed(window: PackWindow, bytes: Uint8Array): void {
    this.#hash.update(bytes);
    for (const blob of window.blobs) {
      const start = blob.offsetBytes - window.offsetBytes;
      this.#verifyBlob(blob, bytes.subarray(start, start + blob.lengthBytes));
    }
    const behind = this.#bodyEndBytes - window.offsetBytes;
    if (behind < bytes.length && this.#pack.sizeBytes - this.#bodyEndBytes <= trailerMaxBytes) {
      // A copy, since the window's memory may be freed.
      this.#trailer.push(Uint8Array.from(bytes.subarray(Math.max(0, behind))));
    }
  }

  finish(): PackVerdict {
    if (this.#hash.digest('hex') !== this.#pack.id) {
      this.#problems.unshift('its content does not match its name');
    }
    try {
      this.#compareHeader();
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      this.#problems.push(error.message);
    }
    return { problems: this.#problems, damaged: this.#damaged };
  }

  #verifyBlob(blob: PackedBlob, sealed: Uint8Array): void {
    try {
      const id = Buffer.from(blob.id, 'hex');
      verifyBlob(this.#key, sealed, blob.uncompressedBytes, id, `${blob.type} blob ${blob.id}`);
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      this.#condemn(blob, error.message);
    }
  }

  #condemn(blob: PackedBlob, problem: string): void {
    this.#problems.push(problem);
    this.#damaged.push({ id: blob.id, type: blob.type });
  }

  /** Blobs follow one another without gaps. Returns where they end. */
  #examinePlaces(): number {
    let end = 0;
    for (const blob of this.#pack.blobs) {
      if (!isPlaced(blob, end, this.#pack.sizeBytes)) {
        this.#condemn(blob, `${blob.type} blob ${blob.id} lies outside the file or within another blob`);
        continue;
      }
      if (blob.offsetBytes > end && !this.#pack.partial) {
        this.#problems.push(
          `there is a gap of ${blob.offsetBytes - end} bytes before ${blob.type} blob ${blob.id}`,
        );
      }
      end = blob.offsetBytes + blob.lengthBytes;
    }
    return end;
  }

  #compareHeader(): void {
    const trailer = Buffer.concat(this.#trailer);
    const trailerOffsetBytes = this.#pack.sizeBytes - trailer.length;
    const what = `header of pack ${this.#pack.id}`;
    const place = locatePackHeader(trailer.subarray(-4), this.#pack.sizeBytes, what);
    const start = place.offsetBytes - trailerOffsetBytes;
    if (start < 0) throw new CorruptionError(`The ${what} begins before its last blob ends`);
    const sealed = trailer.subarray(start, start + place.lengthBytes);
    const listed = new Set(parsePackHeader(this.#key.open(sealed, `the ${what}`), what).map(entryKey));
    const strangers = this.#pack.blobs.filter((blob) => !listed.delete(entryKey(blob)));
    for (const blob of strangers) {
      this.#problems.push(`the index has ${blob.type} blob ${blob.id} where the header does not`);
    }
    if (listed.size > 0 && !this.#pack.partial) {
      this.#problems.push(`the header lists ${listed.size} blobs that the index does not have there`);
    }
  }
}

function entryKey({ id, type, offsetBytes, lengthBytes, uncompressedBytes }: PackedBlob): string {
  return `${id} ${type} ${offsetBytes} ${lengthBytes} ${uncompressedBytes ?? 0}`;
}
