/** Byte pieces in order of arrival: copied out from the front, dropped when they are done with. */
export class ByteQueue {
  readonly #pieces: Uint8Array[] = [];
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
    for (const piece of this.#pieces) {
      const part = piece.subarray(0, target.length - copied);
      target.set(part, copied);
      copied += part.length;
      if (copied === target.length) break;
    }
    return copied;
  }

  /** Drops `count` bytes from the front. */
  drop(count: number): void {
    let left = count;
    this.#lengthBytes -= count;
    let whole = 0;
    for (const piece of this.#pieces) {
      if (piece.length > left) {
        this.#pieces[whole] = piece.subarray(left);
        break;
      }
      left -= piece.length;
      whole++;
    }
    this.#pieces.splice(0, whole);
  }
}
