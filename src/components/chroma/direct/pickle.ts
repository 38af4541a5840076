import { CorruptionError } from '../../../model/errors.ts';
import { IdTable, type IdBytes } from './id-table.ts';

/** Chroma's id map of one vector segment, from `index_metadata.pickle`. */
export interface IdMap {
  readonly dimensionality: number | undefined;
  readonly totalElementsAdded: number;
  /** Only in directories older than the `max_seq_id` table. */
  readonly maxSeqId: bigint | undefined;
  /** The label of each id. */
  readonly labels: IdTable;
}

/** The one class the file may name; Python servers pickle an instance of it, Rust servers a plain dict. */
const allowedGlobal = 'chromadb.segment.impl.vector.local_persistent_hnsw PersistentData';
const labelsMember = 'id_to_label';
/** Members nobody reads here; their entries are dropped while parsing to save memory. */
const unreadMembers = new Set(['label_to_id', 'id_to_seq_id']);
const windowBytes = 1 << 20;
/** Longer than any class or member name; ids are not read as names. */
const longestNameBytes = 4096;

/** BINPUT, LONG_BINPUT and MEMOIZE number what lies on top and leave it there. */
const memoOpcodes = new Set([0x71, 0x72, 0x94]);

const mark = Symbol('mark');
/** The dictionary whose entries go into the table, and any whose entries are dropped. */
const labelsDictionary = Symbol('labels');
const unreadDictionary = Symbol('unread');
const persistentDataClass = Symbol('PersistentData');

/** Where a text lies in the file: of millions, none is held. */
class Text {
  readonly offset: number;
  readonly lengthBytes: number;

  constructor(offset: number, lengthBytes: number) {
    this.offset = offset;
    this.lengthBytes = lengthBytes;
  }
}
type Item = Text | number | bigint | boolean | null | symbol | Members | Tuple;
class Members extends Map<string, Item> {}
class Tuple extends Array<Item> {}

/**
 * Parses `index_metadata.pickle`. This is no general unpickler: it knows dicts, strings, numbers, booleans and
 * `None`, and refuses every opcode that could import or call anything but the empty `PersistentData` object, so
 * a malicious file cannot do harm. Opcodes: Python's Lib/pickletools.py, protocols 2 to 5.
 *
 * Memory: what {@link IdTable} takes for each id, and 12 bytes for each while parsing where the writer numbers its
 * texts, as Python does.
 * @param where names the file in errors
 * @throws CorruptionError when the file is damaged or is not an id map
 */
export function parseIdMap(bytes: IdBytes, where: string): IdMap {
  const reader = new PickleReader(bytes, where);
  const value = reader.read();
  const refuse = (what: string): never => {
    throw new CorruptionError(`The id map ${where} ${what}`);
  };
  if (!(value instanceof Members)) return refuse('holds no dictionary');
  const count = value.get('total_elements_added');
  const dimensionality = value.get('dimensionality');
  const maxSeqId = value.get('max_seq_id');
  if (typeof count !== 'number' || value.get(labelsMember) !== labelsDictionary)
    return refuse('lacks its counts or labels');
  return {
    dimensionality: typeof dimensionality === 'number' ? dimensionality : undefined,
    totalElementsAdded: count,
    maxSeqId: typeof maxSeqId === 'number' || typeof maxSeqId === 'bigint' ? BigInt(maxSeqId) : undefined,
    labels: reader.labels,
  };
}

/** What the file numbered, to be recalled: texts as numbers, as there may be millions. */
class Memo {
  #offsets = new Float64Array(64);
  #lengths = new Uint32Array(64);
  readonly #others = new Map<number, Item>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  set(index: number, item: Item): void {
    if (index === this.#offsets.length) {
      this.#offsets = grown(this.#offsets, new Float64Array(2 * index));
      this.#lengths = grown(this.#lengths, new Uint32Array(2 * index));
    }
    this.#size = Math.max(this.#size, index + 1);
    this.#others.delete(index);
    if (item instanceof Text) {
      this.#offsets[index] = item.offset;
      this.#lengths[index] = item.lengthBytes;
    } else this.#others.set(index, item);
  }

  get(index: number): Item | undefined {
    if (index >= this.#size) return undefined;
    return this.#others.get(index) ?? new Text(this.#offsets[index] ?? 0, this.#lengths[index] ?? 0);
  }
}

function grown<T extends Float64Array | Uint32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

class PickleReader {
  readonly labels: IdTable;
  readonly #source: IdBytes;
  readonly #where: string;
  readonly #window = Buffer.alloc(windowBytes);
  #windowStart = 0;
  #windowLength = 0;
  #offset = 0;
  readonly #stack: Item[] = [];
  readonly #memo = new Memo();
  /** Where the entries begin that are taken into {@link labels}, or dropped, as they come; -1 elsewhere. */
  #entriesAt = -1;

  constructor(source: IdBytes, where: string) {
    this.#source = source;
    this.#where = where;
    this.labels = new IdTable(source);
  }

  read(): Item {
    try {
      for (;;) {
        const opcode = this.#take(1).readUInt8();
        if (opcode === 0x2e /* STOP */) break;
        this.#step(opcode);
      }
    } catch (cause) {
      if (cause instanceof RangeError) this.#refuse('ends early or claims too much data', cause);
      throw cause;
    }
    return this.#pop();
  }

  #refuse(what: string, cause?: unknown): never {
    throw new CorruptionError(`The id map ${this.#where} ${what}, at byte ${this.#offset}`, { cause });
  }

  #step(opcode: number): void {
    if (!memoOpcodes.has(opcode)) this.#takeEntries();
    if (this.#scalar(opcode) || this.#collection(opcode) || this.#memoized(opcode) || this.#object(opcode))
      return;
    this.#refuse(`uses the pickle opcode 0x${opcode.toString(16)}, which Chroma never writes there`);
  }

  #scalar(opcode: number): boolean {
    switch (opcode) {
      case 0x4e /* NONE */:
        return this.#push(null);
      case 0x88 /* NEWTRUE */:
      case 0x89 /* NEWFALSE */:
        return this.#push(opcode === 0x88);
      case 0x4a /* BININT */:
        return this.#push(this.#take(4).readInt32LE());
      case 0x4b /* BININT1 */:
        return this.#push(this.#take(1).readUInt8());
      case 0x4d /* BININT2 */:
        return this.#push(this.#take(2).readUInt16LE());
      case 0x8a /* LONG1 */:
        return this.#push(this.#long(this.#take(1).readUInt8()));
      case 0x58 /* BINUNICODE */:
        return this.#text(this.#take(4).readUInt32LE());
      case 0x8c /* SHORT_BINUNICODE */:
        return this.#text(this.#take(1).readUInt8());
      case 0x8d /* BINUNICODE8 */:
        return this.#text(Number(this.#take(8).readBigUInt64LE()));
      default:
        return false;
    }
  }

  #collection(opcode: number): boolean {
    switch (opcode) {
      case 0x80 /* PROTO */:
        this.#take(1);
        return true;
      case 0x95 /* FRAME */:
        this.#take(8);
        return true;
      case 0x7d /* EMPTY_DICT */:
        return this.#push(this.#emptyDictionary());
      case 0x28 /* MARK */: {
        const target = this.#stack.at(-1);
        this.#push(mark);
        this.#entriesAt =
          target === labelsDictionary || target === unreadDictionary ? this.#stack.length : -1;
        return true;
      }
      case 0x73 /* SETITEM */:
        return this.#setItems(this.#stack.splice(-2));
      case 0x75 /* SETITEMS */:
        return this.#setItems(this.#popToMark());
      case 0x29 /* EMPTY_TUPLE */:
        return this.#push(new Tuple());
      default:
        return false;
    }
  }

  #memoized(opcode: number): boolean {
    switch (opcode) {
      case 0x71 /* BINPUT */:
        return this.#memoize(this.#take(1).readUInt8());
      case 0x72 /* LONG_BINPUT */:
        return this.#memoize(this.#take(4).readUInt32LE());
      case 0x94 /* MEMOIZE */:
        return this.#memoize(this.#memo.size);
      case 0x68 /* BINGET */:
        return this.#recall(this.#take(1).readUInt8());
      case 0x6a /* LONG_BINGET */:
        return this.#recall(this.#take(4).readUInt32LE());
      default:
        return false;
    }
  }

  #object(opcode: number): boolean {
    switch (opcode) {
      case 0x63 /* GLOBAL */:
        return this.#global(`${this.#line()} ${this.#line()}`);
      case 0x93 /* STACK_GLOBAL */: {
        const [module, name] = this.#stack.splice(-2);
        return this.#global(
          [module, name].map((part) => (part instanceof Text ? this.#name(part) : '?')).join(' '),
        );
      }
      case 0x81 /* NEWOBJ */: {
        const [cls, args] = this.#stack.splice(-2);
        if (cls !== persistentDataClass || !(args instanceof Tuple))
          this.#refuse('creates an object that is not allowed');
        return this.#push(new Members());
      }
      case 0x62 /* BUILD */: {
        const state = this.#pop();
        if (!(state instanceof Members) || !(this.#stack.at(-1) instanceof Members))
          this.#refuse('builds an unexpected object');
        this.#stack[this.#stack.length - 1] = state;
        return true;
      }
      default:
        return false;
    }
  }

  #global(name: string): boolean {
    if (name !== allowedGlobal) this.#refuse(`asks for ${JSON.stringify(name)}, which is not allowed`);
    return this.#push(persistentDataClass);
  }

  #emptyDictionary(): Members | symbol {
    const key = this.#stack.at(-1);
    const name = key instanceof Text ? this.#name(key) : '';
    if (unreadMembers.has(name)) return unreadDictionary;
    return name === labelsMember ? labelsDictionary : new Members();
  }

  #setItems(items: readonly Item[]): boolean {
    this.#entriesAt = -1;
    if (items.length % 2 !== 0) this.#refuse('sets members of an unexpected object');
    const target = this.#stack.at(-1);
    for (let i = 0; i < items.length; i += 2) this.#setItem(target, items[i], items[i + 1]);
    return true;
  }

  #setItem(target: Item | undefined, key: Item | undefined, value: Item | undefined): void {
    if (target === unreadDictionary) return;
    if (!(key instanceof Text)) this.#refuse('maps something other than ids to labels');
    if (target instanceof Members) target.set(this.#name(key), value ?? null);
    else if (target !== labelsDictionary) this.#refuse('sets members of an unexpected object');
    else if (typeof value !== 'number' || !Number.isInteger(value) || value < 0)
      this.#refuse('maps something other than ids to labels');
    else this.labels.set(key.offset, key.lengthBytes, value);
  }

  /** Takes whole entries of millions off the stack before anything is put on top of them. */
  #takeEntries(): void {
    if (this.#entriesAt < 0) return;
    const target = this.#stack[this.#entriesAt - 2];
    while (this.#stack.length - this.#entriesAt >= 2) {
      const [key, value] = this.#stack.splice(this.#entriesAt, 2);
      this.#setItem(target, key, value);
    }
  }

  #push(item: Item): true {
    this.#stack.push(item);
    return true;
  }

  #pop(): Item {
    const item = this.#stack.pop();
    if (item === undefined) this.#refuse('reads from an empty stack');
    return item;
  }

  #popToMark(): Item[] {
    const at = this.#stack.lastIndexOf(mark);
    if (at < 0) this.#refuse('lacks a mark');
    const items = this.#stack.splice(at);
    items.shift();
    return items;
  }

  #memoize(index: number): boolean {
    const top = this.#stack.at(-1);
    // Chroma's writers number their memo without gaps; a gap would let a short file claim a huge array.
    if (top === undefined || index > this.#memo.size) this.#refuse('has an invalid memo number');
    this.#memo.set(index, top);
    return true;
  }

  #recall(index: number): boolean {
    const item = this.#memo.get(index);
    if (item === undefined) this.#refuse('reads a memo that it never stored');
    return this.#push(item);
  }

  /** Up to a window of bytes, until the next call. */
  #take(lengthBytes: number): Buffer {
    if (!(lengthBytes <= windowBytes)) this.#refuse('claims too much data');
    const end = this.#offset + lengthBytes;
    if (end > this.#windowStart + this.#windowLength) {
      this.#windowStart = this.#offset;
      this.#windowLength = this.#source.read(this.#window, this.#offset);
      if (lengthBytes > this.#windowLength) this.#refuse('ends early');
    }
    const start = this.#offset - this.#windowStart;
    this.#offset = end;
    return this.#window.subarray(start, start + lengthBytes);
  }

  #text(lengthBytes: number): true {
    const offset = this.#offset;
    if (!(offset + lengthBytes <= this.#source.sizeBytes)) this.#refuse('ends early');
    this.#offset += lengthBytes;
    // The window may end within the text.
    if (this.#offset > this.#windowStart + this.#windowLength) this.#windowLength = 0;
    return this.#push(new Text(offset, lengthBytes));
  }

  #name({ offset, lengthBytes }: Text): string {
    const bytes = Buffer.alloc(Math.min(lengthBytes, longestNameBytes));
    this.#source.read(bytes, offset);
    return bytes.toString('utf8');
  }

  #line(): string {
    const bytes: number[] = [];
    for (;;) {
      const byte = this.#take(1).readUInt8();
      if (byte === 0x0a) return Buffer.from(bytes).toString('utf8');
      bytes.push(byte);
      if (bytes.length > longestNameBytes) this.#refuse('ends early');
    }
  }

  /** Little-endian two's complement of any length; a number when it is a safe integer. */
  #long(lengthBytes: number): number | bigint {
    let value = 0n;
    const bytes = this.#take(lengthBytes);
    for (const byte of [...bytes].reverse()) value = (value << 8n) | BigInt(byte);
    value = BigInt.asIntN(8 * lengthBytes, value);
    const asNumber = Number(value);
    return Number.isSafeInteger(asNumber) ? asNumber : value;
  }
}
