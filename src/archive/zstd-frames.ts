import { CorruptionError } from '../model/errors.ts';
import type { Bytes } from '../ports/artifacts.ts';

const frameMagic = 0xfd2fb528;
const maxFrameHeaderBytes = 18;
const dictionaryIdBytes = [0, 1, 2, 4] as const;

/**
 * Passes zstd frames through, cutting chunks at the ends of frames (RFC 8878 section 3.1.1: magic, frame header,
 * blocks with a 3-byte header each, optional 4-byte checksum): Node's decompressor drops what follows a frame's
 * end within one chunk.
 * @throws CorruptionError for frames of other kinds, and at a truncated end
 */
export async function* cutAtFrames(bytes: AsyncIterable<Buffer>): Bytes {
  const walk = new FrameWalk();
  for await (const chunk of bytes) {
    let start = 0;
    for (let at = 0; at < chunk.length;) {
      at += walk.advance(chunk.subarray(at));
      if (!walk.betweenFrames) continue;
      yield chunk.subarray(start, at);
      start = at;
    }
    if (start < chunk.length) yield chunk.subarray(start);
  }
  if (!walk.betweenFrames) throw new CorruptionError('The archive is truncated');
}

class FrameWalk {
  #state: 'frame-header' | 'block-header' | 'block' = 'frame-header';
  /** Header bytes collected so far. */
  #head: Buffer = Buffer.alloc(0);
  #blockLeftBytes = 0;
  #lastBlock = false;
  #hasChecksum = false;

  get betweenFrames(): boolean {
    return this.#state === 'frame-header' && this.#head.length === 0;
  }

  /** Takes in a first part of `chunk`, at most to the end of a frame; returns how many bytes it took. */
  advance(chunk: Buffer): number {
    if (this.#state === 'block') {
      const taken = Math.min(chunk.length, this.#blockLeftBytes);
      this.#blockLeftBytes -= taken;
      if (this.#blockLeftBytes === 0) this.#state = this.#lastBlock ? 'frame-header' : 'block-header';
      return taken;
    }
    this.#head = Buffer.concat([this.#head, chunk.subarray(0, 1)]);
    if (this.#head.length > maxFrameHeaderBytes) throw new CorruptionError('A zstd frame header is damaged');
    if (this.#state === 'frame-header') this.#tryFrameHeader();
    else this.#tryBlockHeader();
    return 1;
  }

  #tryFrameHeader(): void {
    const head = this.#head;
    if (head.length < 5) return;
    if (head.readUInt32LE(0) !== frameMagic)
      throw new CorruptionError('There are unknown bytes between zstd frames');
    const descriptor = head.readUInt8(4);
    const singleSegment = (descriptor & 0x20) !== 0;
    const sizeFlag = descriptor >> 6;
    const contentSizeBytes = sizeFlag === 0 ? (singleSegment ? 1 : 0) : 2 ** sizeFlag;
    const wantedBytes =
      5 + (singleSegment ? 0 : 1) + dictionaryIdBytes[(descriptor & 3) as 0 | 1 | 2 | 3] + contentSizeBytes;
    if (head.length < wantedBytes) return;
    this.#hasChecksum = (descriptor & 0x04) !== 0;
    this.#head = Buffer.alloc(0);
    this.#state = 'block-header';
  }

  #tryBlockHeader(): void {
    if (this.#head.length < 3) return;
    const word = this.#head.readUIntLE(0, 3);
    const runLength = ((word >> 1) & 3) === 1;
    this.#lastBlock = (word & 1) === 1;
    this.#blockLeftBytes = (runLength ? 1 : word >> 3) + (this.#lastBlock && this.#hasChecksum ? 4 : 0);
    this.#head = Buffer.alloc(0);
    this.#state = this.#blockLeftBytes > 0 ? 'block' : this.#lastBlock ? 'frame-header' : 'block-header';
  }
}
