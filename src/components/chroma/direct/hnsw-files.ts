import { closeSync, fstatSync, lstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../../../model/abort.ts';
import { CorruptionError } from '../../../model/errors.ts';
import { LabelPositions, type IdBytes } from './id-table.ts';
import { parseIdMap, type IdMap } from './pickle.ts';

const headerBytes = 100;
const segmentFiles = [
  'header.bin',
  'data_level0.bin',
  'link_lists.bin',
  'length.bin',
  'index_metadata.pickle',
] as const;
const scanBufferBytes = 4 << 20;
/** hnswlib marks a deleted element in the third byte of its level 0 link list (`DELETE_MARK`). */
const deleteMarkOffset = 2;

/** `header.bin` of Chroma's hnswlib fork, `persistence version` 1 (chroma-core/hnswlib, hnswalg.h). */
interface HnswHeader {
  readonly capacity: number;
  readonly count: number;
  readonly elementBytes: number;
  readonly labelOffset: number;
  readonly vectorOffset: number;
  /** Of {@link entryPoint}, the element where every search begins. */
  readonly maxLevel: number;
  readonly entryPoint: number;
  readonly linksPerLevel: number;
  readonly linksLevel0: number;
}

function parseHeader(bytes: Buffer, directory: string): HnswHeader {
  const refuse = (why: string): never => {
    throw new CorruptionError(`The vector index ${directory} is damaged: its header.bin ${why}`);
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
    maxLevel: bytes.readInt32LE(52),
    entryPoint: bytes.readUInt32LE(56),
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
  return sane ? header : refuse('holds numbers that contradict one another');
}

/**
 * The files of one vector segment, opened for reading. Vectors and ids are read one at a time; memory: 36 to 50 bytes a
 * record, and the links above level 0, about 9 more, while it is opened.
 */
export class HnswFiles implements Disposable {
  readonly header: HnswHeader;
  readonly idMap: IdMap;
  readonly #files: OpenFile[] = [];
  readonly #levels: OpenFile;
  readonly #lengths: OpenFile;
  readonly #positions: LabelPositions;
  readonly #deleted: Uint8Array;

  /**
   * True when the segment has ever been saved; before that every vector is in the queue. A server creates the other
   * files with the index and the id map with the first save; without the id map it starts the index anew. True for a
   * link too, which {@link open} refuses.
   */
  static exist(directory: string): boolean {
    if (isLink(directory)) return true;
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
    refuseLinks([directory, ...segmentFiles.map(at)]);
    this.header = parseHeader(readFileSync(at('header.bin')), directory);
    const { count, elementBytes } = this.header;
    try {
      this.#lengths = this.#open(at('length.bin'));
      this.#requireSize(at('length.bin'), this.#lengths.sizeBytes, 4);
      this.#levels = this.#open(at('data_level0.bin'));
      this.#requireSize(at('data_level0.bin'), this.#levels.sizeBytes, elementBytes);
      // Not before the sizes fit what the header claims.
      this.#deleted = new Uint8Array(count);
      this.#positions = new LabelPositions(count);
      checkUpperLinks(readFileSync(at('link_lists.bin')), this.header, directory);
      const idMap = this.#open(at('index_metadata.pickle'));
      this.idMap = parseIdMap(idMap, at('index_metadata.pickle'));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #open(path: string): OpenFile {
    const file = new OpenFile(path);
    this.#files.push(file);
    return file;
  }

  get dimension(): number {
    return (this.header.labelOffset - this.header.vectorOffset) / 4;
  }

  /** Rust servers write the whole capacity, Python servers only what is filled. */
  #requireSize(path: string, sizeBytes: number, elementBytes: number): void {
    const { count, capacity } = this.header;
    if (sizeBytes === capacity * elementBytes || sizeBytes === count * elementBytes) return;
    throw new CorruptionError(
      `${path} has ${sizeBytes} bytes; its header's ${count} elements (capacity ${capacity}) of ${elementBytes} bytes do not fit this size`,
    );
  }

  /** Learns where each label lies, and which elements are deleted. */
  async #scan(directory: string, signal: AbortSignal): Promise<void> {
    const { count, elementBytes, labelOffset, linksLevel0 } = this.header;
    const path = join(directory, 'data_level0.bin');
    const perBuffer = Math.max(1, Math.floor(scanBufferBytes / elementBytes));
    const buffer = Buffer.allocUnsafe(perBuffer * elementBytes);
    for (let first = 0; first < count; first += perBuffer) {
      throwIfAborted(signal);
      const elements = Math.min(perBuffer, count - first);
      const wanted = buffer.subarray(0, elements * elementBytes);
      const readBytes = this.#levels.read(wanted, first * elementBytes);
      if (readBytes !== elements * elementBytes) throw new CorruptionError(`${path} ends early`);
      for (let i = 0; i < elements; i++) {
        const at = i * elementBytes;
        checkLinks(buffer, at, linksLevel0, (link) => link < count, `${path}: element ${first + i}`);
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
    const readBytes = this.#levels.read(bytes, position * elementBytes + vectorOffset);
    if (readBytes !== bytes.length)
      throw new CorruptionError(`Element ${position} of data_level0.bin ends early`);
    return vector;
  }

  /** The vector's length before it was normalised. */
  lengthAt(position: number): number {
    const length = new Float32Array(1);
    if (this.#lengths.read(new Uint8Array(length.buffer), position * 4) !== 4)
      throw new CorruptionError(`Element ${position} of length.bin ends early`);
    return length[0] ?? 0;
  }

  [Symbol.dispose](): void {
    for (const file of this.#files.splice(0)) file.close();
  }
}

const isLink = (path: string): boolean =>
  lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;

/** A snapshot would hold the links alone. @throws CorruptionError */
function refuseLinks(paths: readonly string[]): void {
  for (const path of paths) {
    if (!isLink(path)) continue;
    throw new CorruptionError(`${path} is a symbolic link and holds no data of the vector index`);
  }
}

/** A file that is read at any place. */
class OpenFile implements IdBytes {
  readonly sizeBytes: number;
  readonly #descriptor: number;

  constructor(path: string) {
    this.#descriptor = openSync(path, 'r');
    this.sizeBytes = fstatSync(this.#descriptor).size;
  }

  read(into: Uint8Array, offset: number): number {
    return readSync(this.#descriptor, into, 0, into.length, offset);
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

/**
 * One link list: a u16 count, two bytes of marks, then u32 numbers of elements. A server follows them unchecked.
 * @throws CorruptionError
 */
function checkLinks(
  bytes: Buffer,
  at: number,
  linksMax: number,
  exists: (element: number) => boolean,
  where: string,
): void {
  const links = bytes.readUInt16LE(at);
  if (links > linksMax) throw new CorruptionError(`${where} has ${links} links, more than ${linksMax}`);
  for (let i = 1; i <= links; i++) {
    const link = bytes.readUInt32LE(at + 4 * i);
    if (!exists(link)) throw new CorruptionError(`${where} has a link to ${link}, where there is no element`);
  }
}

/** The links above level 0: per element a u32 length, then one list of u32 (1 + linksPerLevel) for each level. */
function checkUpperLinks(bytes: Buffer, header: HnswHeader, directory: string): void {
  const path = join(directory, 'link_lists.bin');
  const { count, linksPerLevel, entryPoint, maxLevel } = header;
  const levels = levelsOf(bytes, header, path);
  const highest = levels.reduce((max, level) => Math.max(max, level), 0);
  if (count > 0 && (entryPoint >= count || maxLevel !== highest || levels[entryPoint] !== maxLevel)) {
    throw new CorruptionError(
      `${join(directory, 'header.bin')} names element ${entryPoint} at level ${maxLevel} as the entry point; the ${count} elements reach level ${highest}`,
    );
  }
  const listBytes = 4 * (1 + linksPerLevel);
  let offset = 0;
  for (let element = 0; element < count; element++) {
    offset += 4;
    for (let level = 1; level <= (levels[element] ?? 0); level++, offset += listBytes) {
      const exists = (link: number): boolean => link < count && (levels[link] ?? 0) >= level;
      checkLinks(bytes, offset, linksPerLevel, exists, `${path}: element ${element} at level ${level}`);
    }
  }
}

/** The highest level of each element. @throws CorruptionError when the lists do not fill the file */
function levelsOf(bytes: Buffer, { count, linksPerLevel }: HnswHeader, path: string): Uint8Array {
  const listBytes = 4 * (1 + linksPerLevel);
  const levels = new Uint8Array(count);
  let offset = 0;
  for (let element = 0; element < count; element++) {
    if (offset + 4 > bytes.length) throw new CorruptionError(`${path} ends early, at element ${element}`);
    const lengthBytes = bytes.readUInt32LE(offset);
    // A level is drawn by chance, each sixteen times rarer than the one below it.
    if (lengthBytes % listBytes !== 0 || lengthBytes / listBytes > 255) {
      throw new CorruptionError(`${path}: element ${element} has a link list of ${lengthBytes} bytes`);
    }
    levels[element] = lengthBytes / listBytes;
    offset += 4 + lengthBytes;
  }
  if (offset === bytes.length) return levels;
  throw new CorruptionError(`${path} has ${bytes.length} bytes, its ${count} elements take ${offset}`);
}
