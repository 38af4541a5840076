import { closeSync, fstatSync, lstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CorruptionError } from '../../../model/errors.ts';
import { parseIdMap, type IdMap } from './pickle.ts';

const headerBytes = 100;
const scanBufferBytes = 4 << 20;
/** hnswlib marks a deleted element in the third byte of its level 0 link list (`DELETE_MARK`). */
const deleteMarkOffset = 2;

/** `header.bin` of Chroma's hnswlib fork, `persistence version` 1 (chroma-core/hnswlib, hnswalg.h). */
export interface HnswHeader {
  readonly capacity: number;
  readonly count: number;
  readonly elementBytes: number;
  readonly labelOffset: number;
  readonly vectorOffset: number;
  readonly linksPerLevel: number;
  readonly linksLevel0: number;
}

function parseHeader(bytes: Buffer, directory: string): HnswHeader {
  const refuse = (why: string): never => {
    throw new CorruptionError(`${join(directory, 'header.bin')} ${why}`);
  };
  if (bytes.length !== headerBytes) return refuse(`has ${bytes.length} bytes instead of ${headerBytes}`);
  if (bytes.readInt32LE(0) !== 1)
    return refuse(`has the unknown persistence version ${bytes.readInt32LE(0)}`);
  const word = (offset: number): number => Number(bytes.readBigUInt64LE(offset));
  const header: HnswHeader = {
    capacity: word(12),
    count: word(20),
    elementBytes: word(28),
    labelOffset: word(36),
    vectorOffset: word(44),
    linksPerLevel: word(60),
    linksLevel0: word(68),
  };
  const vectorBytes = header.labelOffset - header.vectorOffset;
  const sane =
    header.count <= header.capacity &&
    header.elementBytes === header.labelOffset + 8 &&
    header.vectorOffset === 4 + 4 * header.linksLevel0 &&
    vectorBytes > 0 &&
    vectorBytes % 4 === 0 &&
    vectorBytes <= 1 << 24;
  return sane ? header : refuse('contradicts itself');
}

/** The files of one vector segment, opened for reading. Vectors are read one at a time. */
export class HnswFiles implements Disposable {
  readonly header: HnswHeader;
  readonly idMap: IdMap;
  readonly #levels: number;
  readonly #lengths: Buffer;
  readonly #positions = new Map<number, number>();
  readonly #deleted: Uint8Array;

  /**
   * True when the segment has ever been saved; before that every vector is in the queue. A server creates the other
   * files with the index and the id map with the first save; without the id map it starts the index anew.
   */
  static exist(directory: string): boolean {
    return lstatSync(join(directory, 'index_metadata.pickle'), { throwIfNoEntry: false }) !== undefined;
  }

  /**
   * Opens the files, checks that their sizes fit the header and walks every link list.
   * @throws CorruptionError when they do not fit one another, which is what a torn copy looks like
   */
  static async open(directory: string, signal: AbortSignal): Promise<HnswFiles> {
    let files: HnswFiles;
    try {
      files = new HnswFiles(directory);
    } catch (cause) {
      if (cause instanceof CorruptionError) throw cause;
      throw new CorruptionError(`The vector index ${directory} cannot be read: ${String(cause)}`, { cause });
    }
    try {
      await files.#scan(directory, signal);
      return files;
    } catch (error) {
      files[Symbol.dispose]();
      throw error;
    }
  }

  private constructor(directory: string) {
    const at = (name: string): string => join(directory, name);
    this.header = parseHeader(readFileSync(at('header.bin')), directory);
    this.idMap = parseIdMap(readFileSync(at('index_metadata.pickle')), at('index_metadata.pickle'));
    this.#lengths = readFileSync(at('length.bin'));
    this.#deleted = new Uint8Array(this.header.count);
    this.#requireSize(at('length.bin'), this.#lengths.length, 4);
    checkUpperLinks(readFileSync(at('link_lists.bin')), this.header, at('link_lists.bin'));
    this.#levels = openSync(at('data_level0.bin'), 'r');
    try {
      this.#requireSize(at('data_level0.bin'), fstatSync(this.#levels).size, this.header.elementBytes);
    } catch (error) {
      closeSync(this.#levels);
      throw error;
    }
  }

  get dimension(): number {
    return (this.header.labelOffset - this.header.vectorOffset) / 4;
  }

  /** Rust servers write the whole capacity, Python servers only what is filled. */
  #requireSize(path: string, sizeBytes: number, elementBytes: number): void {
    const { count, capacity } = this.header;
    if (sizeBytes === capacity * elementBytes || sizeBytes === count * elementBytes) return;
    throw new CorruptionError(
      `${path} has ${sizeBytes} bytes; its header's ${count} elements (room for ${capacity}) of ${elementBytes} bytes do not fit that`,
    );
  }

  /** Learns where each label lies, and which elements are deleted. */
  async #scan(directory: string, signal: AbortSignal): Promise<void> {
    const { count, elementBytes, labelOffset, linksLevel0 } = this.header;
    const perBuffer = Math.max(1, Math.floor(scanBufferBytes / elementBytes));
    const buffer = Buffer.allocUnsafe(perBuffer * elementBytes);
    for (let first = 0; first < count; first += perBuffer) {
      signal.throwIfAborted();
      const elements = Math.min(perBuffer, count - first);
      const readBytes = readSync(this.#levels, buffer, 0, elements * elementBytes, first * elementBytes);
      if (readBytes !== elements * elementBytes)
        throw new CorruptionError(`${directory}/data_level0.bin ends early`);
      for (let i = 0; i < elements; i++) {
        const at = i * elementBytes;
        if (buffer.readUInt16LE(at) > linksLevel0) {
          throw new CorruptionError(
            `${directory}/data_level0.bin: element ${first + i} has impossible links`,
          );
        }
        this.#deleted[first + i] = (buffer[at + deleteMarkOffset] ?? 0) & 1;
        this.#positions.set(Number(buffer.readBigUInt64LE(at + labelOffset)), first + i);
      }
      await nextTurn();
    }
  }

  /** Where the label's element lies: its position, or why there is none. */
  locate(label: number): number | 'label-missing' | 'label-deleted' {
    const position = this.#positions.get(label);
    if (position === undefined) return 'label-missing';
    return this.#deleted[position] === 1 ? 'label-deleted' : position;
  }

  /** The vector as stored: for cosine space it is normalised, see {@link lengthAt}. */
  vectorAt(position: number): Float32Array {
    const { elementBytes, vectorOffset } = this.header;
    const vector = new Float32Array(this.dimension);
    const bytes = new Uint8Array(vector.buffer);
    const readBytes = readSync(this.#levels, bytes, 0, bytes.length, position * elementBytes + vectorOffset);
    if (readBytes !== bytes.length)
      throw new CorruptionError(`Element ${position} of data_level0.bin ends early`);
    return vector;
  }

  /** The vector's length before it was normalised. */
  lengthAt(position: number): number {
    return this.#lengths.readFloatLE(position * 4);
  }

  [Symbol.dispose](): void {
    closeSync(this.#levels);
  }
}

/** The links above level 0: per element a u32 length, then whole link lists of u32 (1 + linksPerLevel) each. */
function checkUpperLinks(bytes: Buffer, header: HnswHeader, path: string): void {
  const listBytes = 4 * (1 + header.linksPerLevel);
  let offset = 0;
  for (let element = 0; element < header.count; element++) {
    if (offset + 4 > bytes.length) throw new CorruptionError(`${path} ends early, at element ${element}`);
    const lengthBytes = bytes.readUInt32LE(offset);
    if (lengthBytes % listBytes !== 0) {
      throw new CorruptionError(`${path}: element ${element} has a link list of ${lengthBytes} bytes`);
    }
    offset += 4 + lengthBytes;
  }
  if (offset !== bytes.length) {
    throw new CorruptionError(
      `${path} has ${bytes.length} bytes, its ${header.count} elements take ${offset}`,
    );
  }
}
