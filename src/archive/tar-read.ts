import { CorruptionError } from '../model/errors.ts';
import type { Bytes } from '../ports/artifacts.ts';
import {
  blockBytes,
  decodePax,
  decodeTarBlock,
  paddingBytes,
  paxMaxBytes,
  PaxRecords,
  type TarHeader,
} from './tar-format.ts';

/** One entry on its way through. The body must be read, or left, before the next entry is asked for. */
export interface TarEntry {
  readonly header: TarHeader;
  readonly body: Bytes;
}

/** Exact amounts out of chunks of any size. */
class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #pending: Uint8Array = new Uint8Array();

  constructor(bytes: Bytes) {
    this.#chunks = bytes[Symbol.asyncIterator]();
  }

  /** At least one and at most `maxBytes` bytes; undefined at the end. */
  async some(maxBytes: number): Promise<Uint8Array | undefined> {
    while (this.#pending.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return undefined;
      this.#pending = next.value;
    }
    const taken = this.#pending.subarray(0, maxBytes);
    this.#pending = this.#pending.subarray(taken.length);
    return taken;
  }

  async *take(sizeBytes: number): Bytes {
    for (let leftBytes = sizeBytes; leftBytes > 0;) {
      const chunk = await this.some(leftBytes);
      if (chunk === undefined) throw new CorruptionError('The archive is truncated');
      leftBytes -= chunk.length;
      yield chunk;
    }
  }

  async exactly(sizeBytes: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.take(sizeBytes)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}

/** Reads a body for what happens on the way only. */
export async function readToEnd(bytes: Bytes): Promise<void> {
  const iterator = bytes[Symbol.asyncIterator]();
  while ((await iterator.next()).done !== true);
}

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/**
 * The entries of a tar, strictly: padding is zero, two zero blocks end it and nothing but zeros follows.
 * @throws CorruptionError
 */
export async function* readTar(bytes: Bytes): AsyncGenerator<TarEntry, void, undefined> {
  const reader = new ByteReader(bytes);
  try {
    for (;;) {
      const header = await readHeader(reader);
      if (header === undefined) return;
      let leftBytes = header.sizeBytes;
      const body = (async function* (): Bytes {
        for await (const chunk of reader.take(header.sizeBytes)) {
          leftBytes -= chunk.length;
          yield chunk;
        }
      })();
      yield { header, body };
      await readToEnd(reader.take(leftBytes));
      await requireZeros(reader, paddingBytes(header.sizeBytes));
    }
  } finally {
    await reader.close();
  }
}

async function readHeader(reader: ByteReader): Promise<TarHeader | undefined> {
  let block = await reader.exactly(blockBytes);
  if (isZero(block)) {
    await requireEnd(reader);
    return undefined;
  }
  let pax = new PaxRecords();
  let decoded = decodeTarBlock(block, pax);
  if (decoded.kind === 'pax') {
    if (decoded.sizeBytes > paxMaxBytes)
      throw new CorruptionError('A pax header of the archive is too large');
    pax = decodePax(await reader.exactly(decoded.sizeBytes));
    await requireZeros(reader, paddingBytes(decoded.sizeBytes));
    block = await reader.exactly(blockBytes);
    decoded = decodeTarBlock(block, pax);
  }
  if (decoded.kind === 'pax') throw new CorruptionError('Two pax headers follow one another in the archive');
  return decoded.header;
}

async function requireZeros(reader: ByteReader, sizeBytes: number): Promise<void> {
  if (!isZero(await reader.exactly(sizeBytes))) {
    throw new CorruptionError('The padding of an archive entry is damaged');
  }
}

async function requireEnd(reader: ByteReader): Promise<void> {
  if (!isZero(await reader.exactly(blockBytes))) {
    throw new CorruptionError('The end marker of the archive is damaged');
  }
  for (;;) {
    const chunk = await reader.some(Number.MAX_SAFE_INTEGER);
    if (chunk === undefined) return;
    if (!isZero(chunk)) throw new CorruptionError('Unknown bytes follow the end of the archive');
  }
}
