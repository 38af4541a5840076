import { CorruptionError } from '../../../model/errors.ts';
import type { Bytes } from '../../../ports/artifacts.ts';
import { Crc64 } from './crc64.ts';

const streamedPieceBytes = 1 << 16;

/**
 * Reads a byte stream in order through a sliding window and keeps the CRC-64 of what was consumed. The window holds
 * what {@link need} asked for and one chunk of the source more, whatever the length of the stream.
 *
 * Methods that return bytes return views that stay valid: a buffer is never written again.
 */
export class ByteReader implements AsyncDisposable {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #crc = new Crc64();
  #window: Buffer = Buffer.alloc(0);
  #position = 0;
  /** Up to where of the window the CRC has got. */
  #checked = 0;
  #windowOffset = 0;
  #ended = false;

  constructor(source: Bytes) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Bytes consumed since the start. */
  get offset(): number {
    return this.#windowOffset + this.#position;
  }

  /** Bytes that the synchronous methods may consume now. */
  get available(): number {
    return this.#window.length - this.#position;
  }

  /** CRC-64 of everything consumed so far. */
  checksum(): bigint {
    this.#check();
    return this.#crc.value;
  }

  /** Waits until `sizeBytes` are available. @throws CorruptionError when the stream ends before */
  async need(sizeBytes: number): Promise<void> {
    if (await this.has(sizeBytes)) return;
    throw new CorruptionError(
      `The RDB ends after ${this.offset + this.available} bytes, ${sizeBytes - this.available} bytes early`,
    );
  }

  /** Waits until `sizeBytes` are available; false when the stream ends before. */
  async has(sizeBytes: number): Promise<boolean> {
    if (this.available >= sizeBytes) return true;
    const parts: Uint8Array[] = [this.#window.subarray(this.#position)];
    let total = this.available;
    while (total < sizeBytes && !this.#ended) {
      const next = await this.#source.next();
      if (next.done === true) this.#ended = true;
      else {
        parts.push(next.value);
        total += next.value.length;
      }
    }
    this.#slide(parts);
    return total >= sizeBytes;
  }

  /** True when nothing follows. */
  async atEnd(): Promise<boolean> {
    while (this.available === 0 && !this.#ended) {
      const next = await this.#source.next();
      if (next.done === true) this.#ended = true;
      else this.#slide([next.value]);
    }
    return this.available === 0;
  }

  /** Requires `need(1)`. */
  u8(): number {
    return this.#window.readUInt8(this.#position++);
  }

  /** The next byte, left where it is. Requires `need(1)`. */
  peek(): number {
    return this.#window.readUInt8(this.#position);
  }

  /** Requires `need(sizeBytes)`. */
  take(sizeBytes: number): Buffer {
    const start = this.#position;
    this.#position += sizeBytes;
    return this.#window.subarray(start, this.#position);
  }

  /** Consumes `sizeBytes` in pieces, so that any length passes through a small window. */
  async *pieces(sizeBytes: number): AsyncGenerator<Buffer, void, void> {
    for (let left = sizeBytes; left > 0;) {
      await this.need(1);
      const piece = this.take(Math.min(left, this.available, streamedPieceBytes));
      left -= piece.length;
      yield piece;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#source.return?.();
  }

  #check(): void {
    this.#crc.update(this.#window.subarray(this.#checked, this.#position));
    this.#checked = this.#position;
  }

  #slide(parts: readonly Uint8Array[]): void {
    this.#check();
    this.#windowOffset += this.#position;
    const kept = parts.filter((part) => part.length > 0);
    const [only] = kept;
    this.#window =
      kept.length === 1 && only !== undefined
        ? Buffer.from(only.buffer, only.byteOffset, only.length)
        : Buffer.concat(kept);
    this.#position = 0;
    this.#checked = 0;
  }
}
