import { CorruptionError } from '../../../model/errors.ts';

/** Back references reach 8192 bytes back: 13 bits of offset, plus one. */
const reachBytes = 8192;
const flushBytes = 1 << 16;

const damaged = (): CorruptionError => new CorruptionError('An LZF-compressed string in the RDB is damaged');

/**
 * Decompresses LZF (`src/lzf_d.c` in the Redis sources: `000LLLLL` starts a run of L+1 literal bytes, anything else a
 * copy of L+2 bytes from up to 8192 bytes back) with a window of fixed size, so that strings of any length can pass.
 */
export class LzfStream {
  readonly #emit: (piece: Buffer) => void;
  #output: Buffer = Buffer.allocUnsafe(reachBytes + flushBytes + 512);
  #filled = 0;
  #flushed = 0;
  #pending: Buffer = Buffer.alloc(0);
  #literalLeft = 0;
  /** Bytes put out so far. */
  sizeBytes = 0;

  constructor(emit: (piece: Buffer) => void) {
    this.#emit = emit;
  }

  write(input: Uint8Array): void {
    const bytes = this.#pending.length === 0 ? Buffer.from(input) : Buffer.concat([this.#pending, input]);
    let i = 0;
    while (i < bytes.length) {
      if (this.#literalLeft > 0) {
        const count = Math.min(this.#literalLeft, bytes.length - i);
        bytes.copy(this.#output, this.#filled, i, i + count);
        this.#advance(count);
        this.#literalLeft -= count;
        i += count;
        continue;
      }
      const control = bytes.readUInt8(i);
      if (control < 32) {
        this.#literalLeft = control + 1;
        i++;
        continue;
      }
      const long = control >> 5 === 7;
      if (i + (long ? 3 : 2) > bytes.length) break;
      const length = long ? bytes.readUInt8(i + 1) + 9 : (control >> 5) + 2;
      const low = bytes.readUInt8(i + (long ? 2 : 1));
      this.#copyBack(((control & 31) << 8) + low + 1, length);
      i += long ? 3 : 2;
    }
    this.#pending = bytes.subarray(i);
  }

  /** @throws CorruptionError when the input stopped in the middle of something or gave another length */
  end(expectedBytes: number): void {
    if (this.#pending.length > 0 || this.#literalLeft > 0 || this.sizeBytes !== expectedBytes)
      throw damaged();
    this.#flush();
  }

  #copyBack(distance: number, length: number): void {
    const from = this.#filled - distance;
    if (from < 0) throw damaged();
    // Byte by byte: a copy may reach into what it is writing.
    for (let k = 0; k < length; k++) this.#output[this.#filled + k] = this.#output[from + k] as number;
    this.#advance(length);
  }

  #advance(count: number): void {
    this.#filled += count;
    this.sizeBytes += count;
    if (this.#filled < reachBytes + flushBytes) return;
    this.#flush();
    const next = Buffer.allocUnsafe(this.#output.length);
    this.#output.copy(next, 0, this.#filled - reachBytes, this.#filled);
    this.#output = next;
    this.#filled = reachBytes;
    this.#flushed = reachBytes;
  }

  #flush(): void {
    if (this.#filled > this.#flushed) this.#emit(this.#output.subarray(this.#flushed, this.#filled));
    this.#flushed = this.#filled;
  }
}

/** Decompresses a whole string. @throws CorruptionError unless it gives exactly `expectedBytes` */
export function decompressLzf(input: Uint8Array, expectedBytes: number): Buffer {
  const output = Buffer.allocUnsafe(expectedBytes);
  let filled = 0;
  const read = (i: number): number => {
    const byte = input[i];
    if (byte === undefined) throw damaged();
    return byte;
  };
  for (let i = 0; i < input.length;) {
    const control = read(i++);
    if (control < 32) {
      const count = control + 1;
      if (i + count > input.length || filled + count > expectedBytes) throw damaged();
      output.set(input.subarray(i, i + count), filled);
      i += count;
      filled += count;
      continue;
    }
    const length = control >> 5 === 7 ? read(i++) + 9 : (control >> 5) + 2;
    const from = filled - (((control & 31) << 8) + read(i++) + 1);
    if (from < 0 || filled + length > expectedBytes) throw damaged();
    for (let k = 0; k < length; k++) output[filled + k] = output[from + k] as number;
    filled += length;
  }
  if (filled !== expectedBytes) throw damaged();
  return output;
}
