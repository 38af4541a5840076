import { ftruncateSync, write, writeSync } from 'node:fs';
import { promisify } from 'node:util';

const writeAside = promisify(write);
/** Up to here another thread costs more than it saves. */
const writeAtOnceBytes = 128 << 10;
const blockBytes = 4096;
/** A run of this many zeros becomes a hole; looking for shorter ones costs more than it saves. */
const holeMinBytes = 64 << 10;
const zeros = Buffer.alloc(holeMinBytes);

/** Writes a file from its front, and leaves holes where there is nothing but zeros. */
export class SparseWriter {
  readonly #descriptor: number;
  #position = 0;
  /** Zeros before the position that are not written yet. */
  #pending = 0;
  #hasHoleAtEnd = false;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  async write(chunk: Uint8Array): Promise<void> {
    let dataStart = 0;
    for (let at = 0; at < chunk.length;) {
      const end = Math.min(at + blockBytes, chunk.length);
      if (isZero(chunk, at, end)) {
        if (dataStart < at) await this.#data(chunk.subarray(dataStart, at));
        this.#pending += end - at;
        this.#position += end - at;
        dataStart = end;
      }
      at = end;
    }
    if (dataStart < chunk.length) await this.#data(chunk.subarray(dataStart));
  }

  async #data(bytes: Uint8Array): Promise<void> {
    this.#fillPending();
    if (bytes.length <= writeAtOnceBytes) {
      for (let done = 0; done < bytes.length;)
        done += writeSync(this.#descriptor, bytes, done, bytes.length - done, this.#position + done);
    } else {
      for (let done = 0; done < bytes.length;) {
        const rest = bytes.length - done;
        done += (await writeAside(this.#descriptor, bytes, done, rest, this.#position + done)).bytesWritten;
      }
    }
    this.#position += bytes.length;
    this.#hasHoleAtEnd = false;
  }

  #fillPending(): void {
    if (this.#pending < holeMinBytes) {
      for (let left = this.#pending; left > 0;)
        left -= writeSync(this.#descriptor, zeros, 0, left, this.#position - left);
      this.#hasHoleAtEnd = false;
    } else this.#hasHoleAtEnd = true;
    this.#pending = 0;
  }

  /** Gives the file its length. @returns that, in bytes */
  finish(): number {
    this.#fillPending();
    if (this.#hasHoleAtEnd) ftruncateSync(this.#descriptor, this.#position);
    return this.#position;
  }
}

function isZero(chunk: Uint8Array, start: number, end: number): boolean {
  if (chunk[start] !== 0 || chunk[end - 1] !== 0) return false;
  return zeros.compare(chunk, start, end, 0, end - start) === 0;
}
