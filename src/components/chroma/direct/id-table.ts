import { CorruptionError, TarsError } from '../../../model/errors.ts';

/** The bytes that texts lie in. */
export interface IdBytes {
  readonly sizeBytes: number;
  /** Fills as much of `into` as there is from `offset` on. @returns how many bytes that was */
  read(into: Uint8Array, offset: number): number;
}

/** As many as a 32-bit slot can number. */
const entriesMax = 2 ** 31;
const labelMax = 2 ** 32 - 1;

/**
 * Labels by id, where the ids stay in their file: 21 bytes an id and, in a table at most three quarters full, 5 to 11
 * more. A search hashes the id and compares its bytes with those in the file.
 */
export class IdTable {
  readonly #bytes: IdBytes;
  /** Number of an entry and 1; 0 where free. */
  #slots = new Uint32Array(1024);
  #size = 0;
  #hashes = new Uint32Array(768);
  #offsets = new Float64Array(768);
  #lengths = new Uint32Array(768);
  #labels = new Uint32Array(768);
  #used = new Uint8Array(768);
  #scratch = Buffer.alloc(256);

  constructor(bytes: IdBytes) {
    this.#bytes = bytes;
  }

  get size(): number {
    return this.#size;
  }

  /** @throws CorruptionError for a label no index gives; TarsError `unsupported-version` for more than 2^31 ids */
  set(offset: number, lengthBytes: number, label: number): void {
    if (label > labelMax) throw new CorruptionError(`An id map has the label ${label}`);
    const id = Buffer.from(this.#read(offset, lengthBytes));
    const hash = hashOf(id);
    const found = this.#find(id, hash);
    if (found >= 0) {
      this.#labels[found] = label;
      return;
    }
    if (this.#size === this.#hashes.length) this.#grow();
    const entry = this.#size++;
    this.#hashes[entry] = hash;
    this.#offsets[entry] = offset;
    this.#lengths[entry] = lengthBytes;
    this.#labels[entry] = label;
    this.#place(entry);
  }

  has(id: string): boolean {
    return this.#search(id) >= 0;
  }

  /** The label of an id, which then counts as used. */
  use(id: string): number | undefined {
    const entry = this.#search(id);
    if (entry < 0) return undefined;
    this.#used[entry] = 1;
    return this.#labels[entry];
  }

  *entries(): Generator<readonly [string, number]> {
    for (let entry = 0; entry < this.#size; entry++) yield [this.#idOf(entry), this.#labels[entry] ?? 0];
  }

  /** Ids that {@link use} was never asked for. */
  *unused(): Generator<string> {
    for (let entry = 0; entry < this.#size; entry++) if (this.#used[entry] === 0) yield this.#idOf(entry);
  }

  #search(id: string): number {
    const bytes = Buffer.from(id, 'utf8');
    return this.#find(bytes, hashOf(bytes));
  }

  #find(id: Buffer, hash: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = (this.#slots[slot] ?? 0) - 1;
      if (entry < 0) return -1;
      if (this.#hashes[entry] !== hash || this.#lengths[entry] !== id.length) continue;
      if (this.#read(this.#offsets[entry] ?? 0, id.length).equals(id)) return entry;
    }
  }

  #place(entry: number): void {
    const mask = this.#slots.length - 1;
    let slot = (this.#hashes[entry] ?? 0) & mask;
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
    this.#slots[slot] = entry + 1;
  }

  #grow(): void {
    if (2 * this.#slots.length > entriesMax) {
      throw new TarsError('unsupported-version', `A Chroma collection has more than ${this.#size} records`, {
        hint: 'Remove path from tars.yaml, so that Chroma is captured over HTTP.',
      });
    }
    this.#slots = new Uint32Array(2 * this.#slots.length);
    const room = (this.#slots.length * 3) / 4;
    const grown = <T extends Uint8Array | Uint32Array | Float64Array>(from: T, to: T): T => {
      to.set(from);
      return to;
    };
    this.#hashes = grown(this.#hashes, new Uint32Array(room));
    this.#offsets = grown(this.#offsets, new Float64Array(room));
    this.#lengths = grown(this.#lengths, new Uint32Array(room));
    this.#labels = grown(this.#labels, new Uint32Array(room));
    this.#used = grown(this.#used, new Uint8Array(room));
    for (let entry = 0; entry < this.#size; entry++) this.#place(entry);
  }

  #idOf(entry: number): string {
    return this.#read(this.#offsets[entry] ?? 0, this.#lengths[entry] ?? 0).toString('utf8');
  }

  /** Until the next call. */
  #read(offset: number, lengthBytes: number): Buffer {
    if (lengthBytes > this.#scratch.length) this.#scratch = Buffer.alloc(2 * lengthBytes);
    const into = this.#scratch.subarray(0, lengthBytes);
    if (this.#bytes.read(into, offset) !== lengthBytes) throw new CorruptionError('An id map ends early');
    return into;
  }
}

/** FNV-1a with the last mixing of MurmurHash3, so that the low bits are good enough for a table. */
function hashOf(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Positions by label: 8 to 15 bytes a label. */
export class LabelPositions {
  readonly #labels: Uint32Array;
  readonly #slots: Uint32Array;

  constructor(count: number) {
    this.#labels = new Uint32Array(count);
    this.#slots = new Uint32Array(2 ** Math.ceil(Math.log2(Math.max(2, (count * 4) / 3))));
  }

  /** @throws CorruptionError for a label no index gives */
  set(label: number, position: number): void {
    if (label > labelMax) throw new CorruptionError(`An element of data_level0.bin has the label ${label}`);
    this.#labels[position] = label;
    const mask = this.#slots.length - 1;
    let slot = mixed(label) & mask;
    while (this.#slots[slot] !== 0 && this.#labels[(this.#slots[slot] ?? 0) - 1] !== label)
      slot = (slot + 1) & mask;
    this.#slots[slot] = position + 1;
  }

  get(label: number): number | undefined {
    const mask = this.#slots.length - 1;
    for (let slot = mixed(label) & mask; ; slot = (slot + 1) & mask) {
      const position = (this.#slots[slot] ?? 0) - 1;
      if (position < 0) return undefined;
      if (this.#labels[position] === label) return position;
    }
  }
}

const mixed = (label: number): number => {
  const hash = Math.imul(label ^ (label >>> 16), 0x9e3779b1);
  return (hash ^ (hash >>> 15)) >>> 0;
};
