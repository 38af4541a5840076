import { cutGear, type GearTable } from './gear.ts';
import { chunkMaxBytes, chunksPerSize, sizeMaxBytes, type ChunkParameters } from './parameters.ts';

/** Cuts one artifact, chunk after chunk. */
export class Chunker {
  readonly #parameters: ChunkParameters;
  readonly #table: GearTable;
  #chunks = 0;

  constructor(parameters: ChunkParameters, table: GearTable) {
    this.#parameters = parameters;
    this.#table = table;
  }

  /** What {@link cut} must be given at least before the end of the artifact: its next chunk's greatest length. */
  get lookaheadBytes(): number {
    const size = this.#sizeBytes();
    return this.#parameters.method === 'fixed' ? size : Math.min(size * 8, chunkMaxBytes);
  }

  /** Length of the next chunk, which starts at `start`; at most {@link lookaheadBytes}, at least 1. */
  cut(bytes: Uint8Array, start: number, end: number): number {
    const size = this.#sizeBytes();
    this.#chunks++;
    if (this.#parameters.method === 'fixed') return Math.min(size, end - start);
    return cutGear(this.#table, size, bytes, start, end);
  }

  #sizeBytes(): number {
    const doublings = Math.floor(this.#chunks / chunksPerSize);
    // Beyond 2^20 doublings the power is infinite, and the minimum still right.
    return Math.min(this.#parameters.sizeBytes * 2 ** doublings, sizeMaxBytes(this.#parameters.method));
  }
}
