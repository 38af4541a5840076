import { CorruptionError } from '../../model/errors.ts';
import { sealOverheadBytes, type SealingKey } from './crypto.ts';

/**
 * A pack is `blobs || sealed header || header length` without any padding; its header lists the blobs in order
 * (restic `doc/design.rst`, "Pack Format").
 */

export type BlobType = 'data' | 'tree';

/** One blob as a pack's header and the index describe it. */
export interface PackedBlob {
  /** SHA-256 of the plaintext, 64 hex digits. */
  readonly id: string;
  readonly type: BlobType;
  readonly offsetBytes: number;
  /** Sealed length in the pack. */
  readonly lengthBytes: number;
  /** Length of the plaintext when the blob is compressed; undefined when it is stored as it is. */
  readonly uncompressedBytes: number | undefined;
}

const headerLengthBytes = 4;
const idBytes = 32;
const plainEntryBytes = 1 + 4 + idBytes;
const compressedEntryBytes = plainEntryBytes + 4;
const treeFlag = 1;
const compressedFlag = 2;

/** What one blob adds to the header. */
export function headerEntryBytes(compressed: boolean): number {
  return compressed ? compressedEntryBytes : plainEntryBytes;
}

/** What a pack has besides blobs and header entries. */
export const packOverheadBytes = sealOverheadBytes + headerLengthBytes;

/** The size a pack with exactly these blobs has. A file of another size is damaged. */
export function packSizeBytes(
  blobs: Iterable<Pick<PackedBlob, 'lengthBytes' | 'uncompressedBytes'>>,
): number {
  let size = packOverheadBytes;
  for (const blob of blobs) {
    size += blob.lengthBytes + headerEntryBytes(blob.uncompressedBytes !== undefined);
  }
  return size;
}

/** The sealed header with its length behind it: what follows the last blob. */
export function encodePackTrailer(blobs: readonly PackedBlob[], key: SealingKey): Buffer {
  const sealed = key.seal(encodePackHeader(blobs));
  const length = Buffer.alloc(headerLengthBytes);
  length.writeUInt32LE(sealed.length);
  return Buffer.concat([sealed, length]);
}

/** In one buffer: a pack of small files has tens of thousands of blobs. */
function encodePackHeader(blobs: readonly PackedBlob[]): Buffer {
  let size = 0;
  for (const { uncompressedBytes } of blobs) size += headerEntryBytes(uncompressedBytes !== undefined);
  const header = Buffer.alloc(size);
  let at = 0;
  for (const { id, type, lengthBytes, uncompressedBytes } of blobs) {
    const compressed = uncompressedBytes !== undefined;
    header[at] = (type === 'tree' ? treeFlag : 0) | (compressed ? compressedFlag : 0);
    at = header.writeUInt32LE(lengthBytes, at + 1);
    if (compressed) at = header.writeUInt32LE(uncompressedBytes, at);
    at += header.write(id, at, 'hex');
  }
  return header;
}

/**
 * Where the sealed header lies in a pack of `packBytes`, from its last four bytes.
 * @throws CorruptionError when that is not possible
 */
export function locatePackHeader(
  lastBytes: Uint8Array,
  packBytes: number,
  what: string,
): { readonly offsetBytes: number; readonly lengthBytes: number } {
  const tail = Buffer.from(lastBytes).subarray(-headerLengthBytes);
  if (tail.length < headerLengthBytes) throw new CorruptionError(`The ${what} is too short for a pack`);
  const lengthBytes = tail.readUInt32LE();
  const offsetBytes = packBytes - headerLengthBytes - lengthBytes;
  if (lengthBytes < sealOverheadBytes || offsetBytes < 0) {
    throw new CorruptionError(`The ${what} claims a header of ${lengthBytes} bytes in ${packBytes}`);
  }
  return { offsetBytes, lengthBytes };
}

/** The blobs in an opened (decrypted) header. @throws CorruptionError */
export const parsePackHeader = (header: Buffer, what: string): PackedBlob[] =>
  Array.from(packHeaderBlobs(header, what));

/** {@link parsePackHeader}, one blob at a time. */
export function* packHeaderBlobs(header: Buffer, what: string): Generator<PackedBlob, void, undefined> {
  let offsetBytes = 0;
  for (let at = 0; at < header.length;) {
    const flags = header[at] ?? 0xff;
    const compressed = (flags & compressedFlag) !== 0;
    const end = at + headerEntryBytes(compressed);
    if (flags > (treeFlag | compressedFlag))
      throw new CorruptionError(`The ${what} has a blob of type ${flags}`);
    if (end > header.length) throw new CorruptionError(`The header of the ${what} ends within an entry`);
    const lengthBytes = header.readUInt32LE(at + 1);
    yield {
      id: header.toString('hex', end - idBytes, end),
      type: (flags & treeFlag) === 0 ? 'data' : 'tree',
      offsetBytes,
      lengthBytes,
      uncompressedBytes: compressed ? header.readUInt32LE(at + 5) : undefined,
    };
    offsetBytes += lengthBytes;
    at = end;
  }
}
