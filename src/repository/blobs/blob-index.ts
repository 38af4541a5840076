import type { IndexedPack } from '../format/index-file.ts';
import type { BlobType } from '../format/pack.ts';

/** Where a blob lies. */
export interface BlobLocation {
  /** 64 hex digits. */
  readonly packId: string;
  readonly offsetBytes: number;
  /** Sealed length. */
  readonly lengthBytes: number;
  /** Undefined when the blob is stored as it is. */
  readonly uncompressedBytes: number | undefined;
}

const idWords = 8;
/** Entries a segment holds: growing allocates one segment more and copies nothing. */
const segmentEntries = 1 << 15;
/** id, pack, offset, length, uncompressed length. */
const entryWords = idWords + 4;
const packWord = idWords;
const offsetWord = idWords + 1;
const lengthWord = idWords + 2;
const uncompressedWord = idWords + 3;
/** The type is the top bit of the pack number. */
const treeBit = 0x8000_0000;
/** The pack number of blobs that are announced but not stored yet. */
const announced = 0x7fff_ffff;
const initialSlots = 1 << 10;

/**
 * All blobs of a repository by id, in typed arrays: 48 bytes an entry and 4 to 11 for the hash table (open
 * addressing, linear probing). SHA-256 ids are their own hash.
 */
export class BlobIndex {
  readonly #segments: Uint32Array[] = [];
  readonly #packIds: string[] = [];
  readonly #packNumbers = new Map<string, number>();
  /** Where the last blob of each pack ends. */
  readonly #packEnds: number[] = [];
  readonly #probe = new Uint32Array(idWords);
  readonly #probeBytes = new Uint8Array(this.#probe.buffer);
  /** Entry number + 1; 0 is free. */
  #slots = new Uint32Array(initialSlots);
  #count = 0;

  /** Blobs known, announced ones included. */
  get size(): number {
    return this.#count;
  }

  /** Adds all blobs of a pack. A blob that is known elsewhere keeps its place. */
  addPack(pack: IndexedPack): void {
    const number = this.#packNumber(pack.id);
    for (const blob of pack.blobs) {
      const endBytes = blob.offsetBytes + blob.lengthBytes;
      if (endBytes > (this.#packEnds[number] ?? 0)) this.#packEnds[number] = endBytes;
      const entry = this.#findOrInsert(Buffer.from(blob.id, 'hex'), blob.type);
      const segment = this.#segmentOf(entry);
      const at = (entry % segmentEntries) * entryWords;
      if (((segment[at + packWord] ?? 0) & ~treeBit) !== announced) continue;
      segment[at + packWord] = (blob.type === 'tree' ? treeBit : 0) | number;
      segment[at + offsetWord] = blob.offsetBytes;
      segment[at + lengthWord] = blob.lengthBytes;
      segment[at + uncompressedWord] = blob.uncompressedBytes ?? 0;
    }
  }

  /** Makes {@link has} true for a blob that is about to be stored. False when it was known before. */
  announce(id: Uint8Array, type: BlobType): boolean {
    const before = this.#count;
    this.#findOrInsert(id, type);
    return this.#count > before;
  }

  /** A number below {@link size} that stays the blob's own, for tables beside the index. Undefined when it is unknown. */
  ordinal(id: Uint8Array, type: BlobType): number | undefined {
    return this.#find(id, type);
  }

  /** True for blobs that are stored or announced. */
  has(id: Uint8Array, type: BlobType): boolean {
    return this.#find(id, type) !== undefined;
  }

  /** Where the blob lies; undefined when it is unknown or only announced. */
  lookup(id: Uint8Array, type: BlobType): BlobLocation | undefined {
    const entry = this.#find(id, type);
    if (entry === undefined) return undefined;
    const segment = this.#segmentOf(entry);
    const at = (entry % segmentEntries) * entryWords;
    const number = (segment[at + packWord] ?? 0) & ~treeBit;
    const packId = this.#packIds[number];
    if (packId === undefined) return undefined;
    const uncompressed = segment[at + uncompressedWord] ?? 0;
    return {
      packId,
      offsetBytes: segment[at + offsetWord] ?? 0,
      lengthBytes: segment[at + lengthWord] ?? 0,
      uncompressedBytes: uncompressed === 0 ? undefined : uncompressed,
    };
  }

  /** Where the last known blob of a pack ends. */
  packEndBytes(packId: string): number {
    const number = this.#packNumbers.get(packId);
    return number === undefined ? 0 : (this.#packEnds[number] ?? 0);
  }

  #packNumber(id: string): number {
    const known = this.#packNumbers.get(id);
    if (known !== undefined) return known;
    const number = this.#packIds.push(id) - 1;
    this.#packNumbers.set(id, number);
    return number;
  }

  #find(id: Uint8Array, type: BlobType): number | undefined {
    const slot = this.#slotOf(id, type);
    const stored = this.#slots[slot] ?? 0;
    return stored === 0 ? undefined : stored - 1;
  }

  #findOrInsert(id: Uint8Array, type: BlobType): number {
    const slot = this.#slotOf(id, type);
    const stored = this.#slots[slot] ?? 0;
    if (stored !== 0) return stored - 1;
    const entry = this.#count++;
    if (entry % segmentEntries === 0) this.#segments.push(new Uint32Array(segmentEntries * entryWords));
    const at = (entry % segmentEntries) * entryWords;
    const segment = this.#segmentOf(entry);
    segment.set(this.#probe, at);
    segment[at + packWord] = (type === 'tree' ? treeBit : 0) | announced;
    this.#slots[slot] = entry + 1;
    if (this.#count * 4 > this.#slots.length * 3) this.#grow();
    return entry;
  }

  /** The slot that holds the blob, or the free one where it belongs. Leaves the id in `#probe`. */
  #slotOf(id: Uint8Array, type: BlobType): number {
    this.#probeBytes.set(id);
    const mask = this.#slots.length - 1;
    for (let slot = (this.#probe[0] ?? 0) & mask; ; slot = (slot + 1) & mask) {
      const stored = this.#slots[slot] ?? 0;
      if (stored === 0 || this.#matches(stored - 1, type)) return slot;
    }
  }

  #matches(entry: number, type: BlobType): boolean {
    const segment = this.#segmentOf(entry);
    const at = (entry % segmentEntries) * entryWords;
    for (let word = 0; word < idWords; word++) {
      if (segment[at + word] !== this.#probe[word]) return false;
    }
    return (((segment[at + packWord] ?? 0) & treeBit) !== 0) === (type === 'tree');
  }

  #grow(): void {
    const slots = new Uint32Array(this.#slots.length * 2);
    const mask = slots.length - 1;
    for (let entry = 0; entry < this.#count; entry++) {
      const first = this.#segmentOf(entry)[(entry % segmentEntries) * entryWords] ?? 0;
      let slot = first & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = entry + 1;
    }
    this.#slots = slots;
  }

  #segmentOf(entry: number): Uint32Array {
    const segment = this.#segments[Math.floor(entry / segmentEntries)];
    if (segment === undefined) throw new RangeError(`No blob entry ${entry}`);
    return segment;
  }
}
