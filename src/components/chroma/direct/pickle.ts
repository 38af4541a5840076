import { CorruptionError } from '../../../model/errors.ts';

/** Chroma's id map of one vector segment, from `index_metadata.pickle`. */
export interface IdMap {
  readonly dimensionality: number | undefined;
  readonly totalElementsAdded: number;
  /** Only in directories older than the `max_seq_id` table. */
  readonly maxSeqId: bigint | undefined;
  readonly idToLabel: ReadonlyMap<string, number>;
}

/** The one class the file may name; Python servers pickle an instance of it, Rust servers a plain dict. */
const allowedGlobal = 'chromadb.segment.impl.vector.local_persistent_hnsw PersistentData';
/** Members nobody reads here; their entries are dropped while parsing to save memory. */
const unreadMembers = new Set<unknown>(['label_to_id', 'id_to_seq_id']);

const mark = Symbol('mark');
const persistentDataClass = Symbol('PersistentData');
type Item = string | number | bigint | boolean | null | symbol | Dict | Tuple;
class Dict extends Map<Item, Item> {}
class Tuple extends Array<Item> {}

/**
 * Parses `index_metadata.pickle`. This is no general unpickler: it knows dicts, strings, numbers, booleans and
 * `None`, and refuses every opcode that could import or call anything but the empty `PersistentData` object, so
 * a malicious file cannot do harm. Opcodes: Python's Lib/pickletools.py, protocols 2 to 5.
 * @param where names the file in errors
 * @throws CorruptionError when the file is damaged or is not an id map
 */
export function parseIdMap(bytes: Uint8Array, where: string): IdMap {
  return idMapOf(new PickleReader(bytes, where).read(), where);
}

function idMapOf(value: Item, where: string): IdMap {
  const refuse = (what: string): never => {
    throw new CorruptionError(`The id map ${where} ${what}`);
  };
  if (!(value instanceof Dict)) return refuse('holds no dictionary');
  const count = value.get('total_elements_added');
  const dimensionality = value.get('dimensionality');
  const maxSeqId = value.get('max_seq_id');
  const labels = value.get('id_to_label');
  if (typeof count !== 'number' || !(labels instanceof Dict)) return refuse('lacks its counts or labels');
  const idToLabel = new Map<string, number>();
  for (const [id, label] of labels) {
    if (typeof id !== 'string' || typeof label !== 'number')
      return refuse('maps something other than ids to labels');
    idToLabel.set(id, label);
  }
  return {
    dimensionality: typeof dimensionality === 'number' ? dimensionality : undefined,
    totalElementsAdded: count,
    maxSeqId: typeof maxSeqId === 'number' || typeof maxSeqId === 'bigint' ? BigInt(maxSeqId) : undefined,
    idToLabel,
  };
}

class PickleReader {
  readonly #bytes: Buffer;
  readonly #where: string;
  #offset = 0;
  readonly #stack: Item[] = [];
  readonly #memo: Item[] = [];

  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#where = where;
  }

  read(): Item {
    try {
      while (this.#bytes[this.#offset] !== 0x2e /* STOP */) this.#step(this.#bytes.readUInt8(this.#offset++));
    } catch (cause) {
      if (cause instanceof RangeError) this.#refuse('ends early', cause);
      throw cause;
    }
    return this.#pop();
  }

  #refuse(what: string, cause?: unknown): never {
    throw new CorruptionError(`The id map ${this.#where} ${what}, at byte ${this.#offset}`, { cause });
  }

  #step(opcode: number): void {
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
        return this.#push(this.#text(this.#take(4).readUInt32LE()));
      case 0x8c /* SHORT_BINUNICODE */:
        return this.#push(this.#text(this.#take(1).readUInt8()));
      case 0x8d /* BINUNICODE8 */:
        return this.#push(this.#text(Number(this.#take(8).readBigUInt64LE())));
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
        return this.#push(new Dict());
      case 0x28 /* MARK */:
        return this.#push(mark);
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
        return this.#memoize(this.#memo.length);
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
        return this.#global([module, name].map((part) => (typeof part === 'string' ? part : '?')).join(' '));
      }
      case 0x81 /* NEWOBJ */: {
        const [cls, args] = this.#stack.splice(-2);
        if (cls !== persistentDataClass || !(args instanceof Tuple))
          this.#refuse('creates an object it may not');
        return this.#push(new Dict());
      }
      case 0x62 /* BUILD */: {
        const state = this.#pop();
        if (!(state instanceof Dict) || !(this.#stack.at(-1) instanceof Dict))
          this.#refuse('builds an odd object');
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

  #setItems(items: readonly Item[]): boolean {
    const target = this.#stack.at(-1);
    if (!(target instanceof Dict) || items.length % 2 !== 0) this.#refuse('sets members of something else');
    if (unreadMembers.has(this.#stack.at(-2))) return true;
    for (let i = 0; i < items.length; i += 2) target.set(items[i] ?? null, items[i + 1] ?? null);
    return true;
  }

  #push(item: Item): true {
    this.#stack.push(item);
    return true;
  }

  #pop(): Item {
    const item = this.#stack.pop();
    if (item === undefined) this.#refuse('takes from an empty stack');
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
    if (top === undefined || index > this.#memo.length) this.#refuse('numbers its memo oddly');
    this.#memo[index] = top;
    return true;
  }

  #recall(index: number): boolean {
    const item = this.#memo[index];
    if (item === undefined) this.#refuse('recalls what it never stored');
    return this.#push(item);
  }

  #take(lengthBytes: number): Buffer {
    const end = this.#offset + lengthBytes;
    if (!(end <= this.#bytes.length)) this.#refuse('ends early');
    const taken = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return taken;
  }

  #text(lengthBytes: number): string {
    return this.#take(lengthBytes).toString('utf8');
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#offset);
    if (end < 0) this.#refuse('ends early');
    const line = this.#text(end - this.#offset);
    this.#offset += 1;
    return line;
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
