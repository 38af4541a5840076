/** Docker Engine API, "Attach to a container", "Stream format". */
const headerBytes = 8;

/** Bytes of one output of a program: 1 for stdout, 2 for stderr. */
export interface Frame {
  readonly stream: number;
  readonly bytes: Buffer;
}

/** Takes both outputs of a program apart again. A frame's bytes come in the pieces they arrive in. */
export class FrameReader {
  #header = Buffer.alloc(0);
  #leftBytes = 0;
  #stream = 0;

  /** False in the middle of a frame. */
  get isComplete(): boolean {
    return this.#leftBytes === 0 && this.#header.length === 0;
  }

  *read(chunk: Buffer): Generator<Frame, void> {
    let at = 0;
    while (at < chunk.length) {
      if (this.#leftBytes > 0) {
        const bytes = chunk.subarray(at, at + this.#leftBytes);
        this.#leftBytes -= bytes.length;
        at += bytes.length;
        yield { stream: this.#stream, bytes };
        continue;
      }
      const part = chunk.subarray(at, at + headerBytes - this.#header.length);
      this.#header = Buffer.concat([this.#header, part]);
      at += part.length;
      if (this.#header.length < headerBytes) return;
      this.#stream = this.#header.readUInt8(0);
      this.#leftBytes = this.#header.readUInt32BE(4);
      this.#header = Buffer.alloc(0);
    }
  }
}

/** Both outputs as one text, in which no line of one is divided by what the other wrote meanwhile. */
export function joinStreams(frames: Buffer): Buffer {
  const done: Buffer[] = [];
  const begun = new Map<number, Buffer[]>();
  for (const { stream, bytes } of new FrameReader().read(frames)) {
    const lineEnd = bytes.lastIndexOf(0x0a) + 1;
    const parts = begun.get(stream) ?? [];
    if (lineEnd > 0) {
      done.push(...parts, bytes.subarray(0, lineEnd));
      parts.length = 0;
    }
    begun.set(stream, [...parts, bytes.subarray(lineEnd)]);
  }
  for (const parts of begun.values()) {
    const rest = Buffer.concat(parts);
    if (rest.byteLength > 0) done.push(rest, Buffer.from('\n'));
  }
  return Buffer.concat(done);
}
