import { freeBuffer } from '../seal/free-buffer.ts';

/**
 * Byte pieces in order of arrival: copied out from the front, dropped when they are done with. A piece belongs to the
 * queue from the moment it is pushed; its memory is given back as soon as it is dropped.
 */
export class ByteQueue {
  readonly #pieces: Uint8Array[] = [];
  /** Of the first piece, how much is dropped already. */
  #skipBytes = 0;
  #lengthBytes = 0;

  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  push(piece: Uint8Array): void {
    if (piece.length === 0) return;
    this.#pieces.push(piece);
    this.#lengthBytes += piece.length;
  }

  /** Copies from the front as much as fits, and leaves it in the queue. */
  copyTo(target: Uint8Array): number {
    let copied = 0;
    let skip = this.#skipBytes;
    for (const piece of this.#pieces) {
      const part = piece.subarray(skip, skip + target.length - copied);
      target.set(part, copied);
      copied += part.length;
      skip = 0;
      if (copied === target.length) break;
    }
    return copied;
  }

  /** Drops `count` bytes from the front. */
  drop(count: number): void {
    this.#lengthBytes -= count;
    let left = this.#skipBytes + count;
    let whole = 0;
    for (const piece of this.#pieces) {
      if (piece.length > left) break;
      left -= piece.length;
      whole++;
    }
    this.#skipBytes = left;
    for (const piece of this.#pieces.splice(0, whole)) {
      // Others may hold other parts of the same memory.
      if (piece.byteLength === piece.buffer.byteLength) freeBuffer(piece);
    }
  }
}
