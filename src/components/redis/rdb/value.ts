import { TarsError } from '../../../model/errors.ts';
import { moduleType, skipModuleValue } from './module-value.ts';
import { intset, listpack, ziplist } from './packed.ts';
import { DigestSum, PartHasher } from './part-hasher.ts';
import { hashStream } from './stream-value.ts';
import type { RdbStrings } from './strings.ts';

/** What a client calls the type of a value. */
export type ValueKind = 'string' | 'list' | 'set' | 'zset' | 'hash' | 'stream' | 'module';

/**
 * The largest listpack or ziplist taken: those are decoded in memory. Servers before Redis 7.4 pack a list element
 * of any size, and no element exceeds 512 MiB by default (`proto-max-bulk-len`).
 */
const packedLimitBytes = (512 << 20) + (1 << 16);

const scoreBytes = 8;
const timeBytes = 8;

/** A hash field that expires by itself. */
interface ExpiringField {
  readonly expireAtMs: bigint;
  /** Of field and value. */
  readonly digest: Buffer;
}

/**
 * Reads values and hashes what they mean rather than how they are encoded: a server is free to write a small hash
 * as a listpack today and as a table tomorrow, and the order in a table changes with every start. Members of sets,
 * hashes and sorted sets are summed, so that their order does not matter; everything else is taken in order.
 */
export class ValueReader {
  readonly #strings: RdbStrings;
  readonly #hasher: PartHasher;
  readonly #member = new PartHasher();
  readonly #members = new DigestSum();
  readonly #onField: (field: ExpiringField) => void;
  /** `VALKEY` files give type 22 another meaning than Redis did. */
  readonly #valkey: boolean;
  /** Of the last value that was a module's. */
  moduleType = '';

  /** @param hasher gets the value's parts, after whatever the caller put there before */
  constructor(
    strings: RdbStrings,
    valkey: boolean,
    hasher: PartHasher,
    onField: (field: ExpiringField) => void,
  ) {
    this.#strings = strings;
    this.#valkey = valkey;
    this.#hasher = hasher;
    this.#onField = onField;
  }

  /**
   * Consumes one value. Returns the number of its elements that do not expire by themselves.
   * @throws TarsError `unsupported-version` for a type this build does not know
   */
  async read(type: number): Promise<number> {
    const layout = layoutOf(type, this.#valkey);
    this.#members.reset();
    const elements = await layout.read(this);
    if (layout.kind === 'set' || layout.kind === 'hash' || layout.kind === 'zset') {
      this.#hasher.integer(BigInt(this.#members.count));
      this.#hasher.part(this.#members.value());
      return this.#members.count;
    }
    return elements;
  }

  /** Hashes the name of the module's type; the value itself may be written in another way each time. */
  async module(): Promise<number> {
    this.moduleType = await moduleType(this.#strings);
    this.#hasher.text(this.moduleType);
    await skipModuleValue(this.#strings);
    return 1;
  }

  async string(): Promise<number> {
    await this.#strings.into(this.#hasher);
    return 1;
  }

  /** Nodes of several elements each. `containers`: each is preceded by whether it is one plain element instead. */
  async quicklist(
    unpack: (bytes: Buffer) => Iterable<Buffer>,
    containers: boolean,
    nodes?: number,
  ): Promise<number> {
    let elements = 0;
    for (let left = nodes ?? (await this.#strings.length()); left > 0; left--) {
      const container = containers ? await this.#strings.length() : packedContainer;
      if (container === plainContainer) {
        await this.#strings.into(this.#hasher);
        elements++;
        continue;
      }
      if (container !== packedContainer) throw this.#strings.damaged('a list node has an unknown form');
      for (const element of unpack(await this.#strings.string(packedLimitBytes))) {
        this.#hasher.part(element);
        elements++;
      }
    }
    return elements;
  }

  async plainList(): Promise<number> {
    const length = await this.#strings.length();
    for (let i = 0; i < length; i++) await this.#strings.into(this.#hasher);
    return length;
  }

  /** A set (`width` 1) or hash (2) as a sequence of strings. */
  async plainMembers(width: 1 | 2): Promise<number> {
    for (let left = await this.#strings.length(); left > 0; left--) {
      for (let i = 0; i < width; i++) await this.#strings.into(this.#member);
      this.#members.add(this.#member.finish());
    }
    return 0;
  }

  /** A set, hash or sorted set packed into one string. */
  async packedMembers(
    unpack: (bytes: Buffer) => Iterable<Buffer>,
    form: 'set' | 'hash' | 'zset',
  ): Promise<number> {
    const width = form === 'set' ? 1 : 2;
    let place = 0;
    for (const element of unpack(await this.#strings.string(packedLimitBytes))) {
      this.#member.part(form === 'zset' && place === 1 ? scoreOf(element) : element);
      place = (place + 1) % width;
      if (place === 0) this.#members.add(this.#member.finish());
    }
    if (place !== 0) throw this.#strings.damaged('a packed value ends in the middle of a pair');
    return 0;
  }

  async plainSortedSet(): Promise<number> {
    for (let left = await this.#strings.length(); left > 0; left--) {
      await this.#strings.into(this.#member);
      await this.#strings.reader.need(scoreBytes);
      this.#member.part(this.#strings.reader.take(scoreBytes));
      this.#members.add(this.#member.finish());
    }
    return 0;
  }

  async stream(withCounters: boolean, withActiveTime: boolean): Promise<number> {
    await hashStream(this.#strings, { withCounters, withActiveTime }, packedLimitBytes, this.#hasher);
    return 1;
  }

  /** Redis 7.4: earliest expiry, then per field its expiry relative to that plus one (0: none), field, value. */
  async hashWithRelativeTimes(): Promise<number> {
    const earliest = await this.#time();
    for (let left = await this.#strings.length(); left > 0; left--) {
      const relative = await this.#strings.length64();
      await this.#strings.into(this.#member);
      await this.#strings.into(this.#member);
      this.#field(relative === 0n ? 0n : relative + earliest - 1n);
    }
    return 0;
  }

  /** Redis 7.4: earliest expiry, then a listpack of field, value, expiry (0: none). */
  async hashWithPackedTimes(): Promise<number> {
    await this.#time();
    let place = 0;
    for (const element of listpack(await this.#strings.string(packedLimitBytes))) {
      if (place < 2) this.#member.part(element);
      else this.#field(BigInt(element.toString('latin1')));
      place = (place + 1) % 3;
    }
    if (place !== 0) throw this.#strings.damaged('a packed hash ends in the middle of a field');
    return 0;
  }

  /** Valkey 9: field, value, expiry (-1: none). */
  async hashWithAbsoluteTimes(): Promise<number> {
    for (let left = await this.#strings.length(); left > 0; left--) {
      await this.#strings.into(this.#member);
      await this.#strings.into(this.#member);
      const expireAtMs = await this.#time();
      this.#field(expireAtMs === -1n ? 0n : expireAtMs);
    }
    return 0;
  }

  async #time(): Promise<bigint> {
    await this.#strings.reader.need(timeBytes);
    return this.#strings.reader.take(timeBytes).readBigInt64LE();
  }

  #field(expireAtMs: bigint): void {
    const digest = this.#member.finish();
    if (expireAtMs === 0n) this.#members.add(digest);
    else this.#onField({ expireAtMs, digest });
  }
}

const plainContainer = 1;
const packedContainer = 2;

/** A score as a double, as the unpacked encoding stores it. */
function scoreOf(element: Buffer): Buffer {
  const text = element.toString('latin1');
  const bytes = Buffer.allocUnsafe(scoreBytes);
  bytes.writeDoubleLE(/^[+-]?inf/.test(text) ? (text.startsWith('-') ? -Infinity : Infinity) : Number(text));
  return bytes;
}

interface Layout {
  readonly kind: ValueKind;
  readonly read: (values: ValueReader) => Promise<number>;
}

/** `RDB_TYPE_*` in `src/rdb.h` of Redis 7.4 and Valkey 8 and 9. */
const layouts: Readonly<Record<number, Layout>> = {
  0: { kind: 'string', read: (v) => v.string() },
  1: { kind: 'list', read: (v) => v.plainList() },
  2: { kind: 'set', read: (v) => v.plainMembers(1) },
  4: { kind: 'hash', read: (v) => v.plainMembers(2) },
  5: { kind: 'zset', read: (v) => v.plainSortedSet() },
  7: { kind: 'module', read: (v) => v.module() },
  10: { kind: 'list', read: (v) => v.quicklist(ziplist, false, 1) },
  11: { kind: 'set', read: (v) => v.packedMembers(intset, 'set') },
  12: { kind: 'zset', read: (v) => v.packedMembers(ziplist, 'zset') },
  13: { kind: 'hash', read: (v) => v.packedMembers(ziplist, 'hash') },
  14: { kind: 'list', read: (v) => v.quicklist(ziplist, false) },
  15: { kind: 'stream', read: (v) => v.stream(false, false) },
  16: { kind: 'hash', read: (v) => v.packedMembers(listpack, 'hash') },
  17: { kind: 'zset', read: (v) => v.packedMembers(listpack, 'zset') },
  18: { kind: 'list', read: (v) => v.quicklist(listpack, true) },
  19: { kind: 'stream', read: (v) => v.stream(true, false) },
  20: { kind: 'set', read: (v) => v.packedMembers(listpack, 'set') },
  21: { kind: 'stream', read: (v) => v.stream(true, true) },
  24: { kind: 'hash', read: (v) => v.hashWithRelativeTimes() },
  25: { kind: 'hash', read: (v) => v.hashWithPackedTimes() },
};

const valkeyLayouts: Readonly<Record<number, Layout>> = {
  22: { kind: 'hash', read: (v) => v.hashWithAbsoluteTimes() },
};

/** How values of an RDB type are laid out. @throws TarsError `unsupported-version` */
export function layoutOf(type: number, valkey: boolean): Layout {
  const layout = (valkey ? valkeyLayouts[type] : undefined) ?? layouts[type];
  if (layout !== undefined) return layout;
  throw new TarsError(
    'unsupported-version',
    `The RDB holds a value of type ${type}, which this tars does not know`,
    {
      hint: 'Use a newer tars. Types of Redis 4.0 to 7.4 and Valkey up to 9 are known.',
    },
  );
}
