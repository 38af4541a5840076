import type { BlobLocation } from './blob-index.ts';

/** Neighbouring blobs of a pack are read together, up to this many bytes at a time. */
const rangeMaxBytes = 8 << 20;
/** A gap this small between two wanted blobs is cheaper to read than to skip. */
const gapMaxBytes = 32 << 10;

/** A blob to be read and where it lies; `id` is its 32 bytes of SHA-256. */
export interface WantedBlob {
  readonly id: Buffer;
  readonly location: BlobLocation;
}

/** Blobs that lie one behind the other in one pack, in the order they are wanted. */
export interface BlobRange<Blob extends WantedBlob = WantedBlob> {
  readonly packId: string;
  readonly offsetBytes: number;
  readonly endBytes: number;
  readonly blobs: readonly Blob[];
}

/** Groups blobs, in their order, into as few reads as are worth it. A single blob is never divided. */
export function* groupIntoRanges<Blob extends WantedBlob>(
  wanted: Iterable<Blob>,
): Generator<BlobRange<Blob>, undefined> {
  let blobs: Blob[] = [];
  let start = 0;
  let end = 0;
  for (const blob of wanted) {
    const last = blobs.at(-1);
    if (last && !continues(last, blob, start, end)) {
      yield { packId: last.location.packId, offsetBytes: start, endBytes: end, blobs };
      blobs = [];
    }
    if (blobs.length === 0) start = blob.location.offsetBytes;
    end = blob.location.offsetBytes + blob.location.lengthBytes;
    blobs.push(blob);
  }
  const last = blobs.at(-1);
  if (last) yield { packId: last.location.packId, offsetBytes: start, endBytes: end, blobs };
  return undefined;
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
