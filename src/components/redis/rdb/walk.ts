import { CorruptionError, TarsError } from '../../../model/errors.ts';
import type { Bytes } from '../../../ports/artifacts.ts';
import { ByteReader } from './byte-reader.ts';
import { moduleType, skipModuleValue } from './module-value.ts';
import { PartHasher } from './part-hasher.ts';
import { RdbStrings } from './strings.ts';
import { layoutOf, ValueReader, type ValueKind } from './value.ts';

/** `RDB_OPCODE_*` in `src/rdb.h`. */
const opcodes = {
  slotInfo: 244,
  function: 245,
  functionPreview: 246,
  moduleAux: 247,
  idle: 248,
  frequency: 249,
  aux: 250,
  resizeDatabase: 251,
  expireMs: 252,
  expireSeconds: 253,
  selectDatabase: 254,
  end: 255,
} as const;
const opcodeValues = new Set<number>(Object.values(opcodes));

const magicBytes = 9;
const checksumBytes = 8;
const keyLimitBytes = 512 << 20;
const auxLimitBytes = 1 << 20;

/** One key. */
export interface RdbKey {
  readonly db: number;
  readonly key: Buffer;
  readonly kind: ValueKind;
  readonly expireAtMs: bigint | undefined;
  /** Bytes the value takes in the file. */
  readonly sizeBytes: number;
  /** Elements counted in {@link digest}; 0 for a hash all of whose fields expire by themselves. */
  readonly elements: number;
  /** SHA-256 of database, kind, key, expiry and value without fields that expire by themselves. */
  readonly digest: Buffer;
  /** Of a module's value: its type, such as `vectorset`. The digest knows no more of it. */
  readonly moduleType: string | undefined;
}

/** A hash field with an expiry of its own. */
export interface RdbField {
  readonly db: number;
  /** When it goes: its own expiry or its key's, whichever comes first. */
  readonly goneAtMs: bigint;
  readonly digest: Buffer;
}

/** Called in the order of the file; must not keep buffers longer than needed, they pin the reader's window. */
export interface RdbVisitor {
  /** What the server noted at the top, such as `redis-ver` and `ctime`. */
  aux(name: string, value: string): void;
  key(key: RdbKey): void;
  field(field: RdbField): void;
  /** One function library. */
  library(digest: Buffer): void;
  /** What a module keeps beside keys. */
  moduleData(type: string): void;
}

/** The first nine bytes of an RDB file: magic and version. */
export interface RdbHeader {
  /** `VALKEY` files begin with version 80. */
  readonly magic: 'REDIS' | 'VALKEY';
  readonly version: number;
}

/** What is known of an RDB file once it was walked to its end. */
export interface RdbEnd extends RdbHeader {
  readonly sizeBytes: number;
  /** `absent` when the server was configured with `rdbchecksum no`. */
  readonly checksum: 'verified' | 'absent';
  /** What the server noted at the top, such as `redis-ver` and `ctime`. */
  readonly aux: ReadonlyMap<string, string>;
}

/**
 * Reads a whole RDB file in one pass and bounded memory, decodes every value, and verifies its structure, its end
 * and its CRC-64.
 * @throws CorruptionError when it is damaged, truncated or followed by anything
 * @throws TarsError `unsupported-version` when it holds what this build does not know
 */
export async function walkRdb(bytes: Bytes, visitor: RdbVisitor): Promise<RdbEnd> {
  await using reader = new ByteReader(bytes);
  const header = await readHeader(reader);
  const walk = new Walk(reader, header, visitor);
  await walk.body();
  const expected = reader.checksum();
  await reader.need(checksumBytes);
  const stored = reader.take(checksumBytes).readBigUInt64LE();
  if (stored !== 0n && stored !== expected) {
    throw new CorruptionError(
      `The RDB's checksum is wrong: ${hex(stored)} is stored, ${hex(expected)} computed`,
    );
  }
  const sizeBytes = reader.offset;
  if (!(await reader.atEnd())) throw new CorruptionError(`Extra data follows the RDB at byte ${sizeBytes}`);
  return { ...header, sizeBytes, checksum: stored === 0n ? 'absent' : 'verified', aux: walk.aux };
}

/** What can be told of an RDB file without understanding what it holds. */
interface RdbSeal extends RdbHeader {
  /** `wrong`: it is damaged, or no whole RDB. */
  readonly checksum: RdbEnd['checksum'] | 'wrong';
}

/** Reads a whole RDB file in one pass, for its header and its checksum alone. */
export async function readSeal(bytes: Bytes): Promise<RdbSeal> {
  await using reader = new ByteReader(bytes);
  const header = await readHeader(reader);
  let code = 0;
  // What is left when fewer bytes come than were asked for is the checksum.
  while (await reader.has(checksumBytes + 1)) {
    const piece = reader.take(reader.available - checksumBytes);
    code = piece.at(-1) ?? 0;
  }
  if (code !== opcodes.end || !(await reader.has(checksumBytes))) return { ...header, checksum: 'wrong' };
  const expected = reader.checksum();
  const stored = reader.take(checksumBytes).readBigUInt64LE();
  if (stored === 0n) return { ...header, checksum: 'absent' };
  return { ...header, checksum: stored === expected ? 'verified' : 'wrong' };
}

const hex = (value: bigint): string => value.toString(16).padStart(16, '0');

async function readHeader(reader: ByteReader): Promise<RdbHeader> {
  await reader.need(magicBytes);
  const text = reader.take(magicBytes).toString('latin1');
  const match = /^(REDIS)(\d{4})$|^(VALKEY)(\d{3})$/.exec(text);
  if (match === null)
    throw new CorruptionError('This is not an RDB file: it does not begin with REDIS or VALKEY');
  const version = Number(match[2] ?? match[4]);
  if (version < 5) {
    throw new TarsError('unsupported-version', `The RDB version ${version} is too old`, {
      hint: 'tars supports servers from Redis 4.0 on.',
    });
  }
  return { magic: match[1] === undefined ? 'VALKEY' : 'REDIS', version };
}

class Walk {
  readonly aux = new Map<string, string>();
  readonly #reader: ByteReader;
  readonly #strings: RdbStrings;
  readonly #visitor: RdbVisitor;
  readonly #values: ValueReader;
  readonly #valkey: boolean;
  readonly #hasher = new PartHasher();
  readonly #fieldHasher = new PartHasher();
  #db = 0;
  #key: Buffer = Buffer.alloc(0);
  #expireAtMs: bigint | undefined;

  constructor(reader: ByteReader, header: RdbHeader, visitor: RdbVisitor) {
    this.#reader = reader;
    this.#strings = new RdbStrings(reader);
    this.#visitor = visitor;
    this.#valkey = header.magic === 'VALKEY';
    this.#values = new ValueReader(this.#strings, this.#valkey, this.#hasher, (field) => {
      this.#field(field.expireAtMs, field.digest);
    });
  }

  async body(): Promise<void> {
    for (;;) {
      await this.#reader.need(1);
      const code = this.#reader.u8();
      if (code === opcodes.end) return;
      if (opcodeValues.has(code)) await this.#opcode(code);
      else await this.#entry(code);
    }
  }

  async #entry(type: number): Promise<void> {
    const { kind } = layoutOf(type, this.#valkey);
    this.#key = await this.#strings.string(keyLimitBytes);
    const start = this.#reader.offset;
    this.#hasher.text(kind);
    this.#hasher.integer(BigInt(this.#db));
    this.#hasher.part(this.#key);
    this.#hasher.integer(this.#expireAtMs ?? -1n);
    const elements = await this.#values.read(type);
    this.#visitor.key({
      db: this.#db,
      key: this.#key,
      kind,
      expireAtMs: this.#expireAtMs,
      sizeBytes: this.#reader.offset - start,
      elements,
      digest: this.#hasher.finish(),
      moduleType: kind === 'module' ? this.#values.moduleType : undefined,
    });
    this.#expireAtMs = undefined;
  }

  #field(expireAtMs: bigint, digest: Buffer): void {
    this.#fieldHasher.text('field');
    this.#fieldHasher.integer(BigInt(this.#db));
    this.#fieldHasher.part(this.#key);
    this.#fieldHasher.integer(this.#expireAtMs ?? -1n);
    this.#fieldHasher.integer(expireAtMs);
    this.#fieldHasher.part(digest);
    const keyGoneAtMs = this.#expireAtMs ?? expireAtMs;
    this.#visitor.field({
      db: this.#db,
      goneAtMs: keyGoneAtMs < expireAtMs ? keyGoneAtMs : expireAtMs,
      digest: this.#fieldHasher.finish(),
    });
  }

  async #opcode(code: number): Promise<void> {
    switch (code) {
      case opcodes.selectDatabase:
        this.#db = await this.#strings.length();
        return;
      case opcodes.expireMs:
        await this.#reader.need(8);
        this.#expireAtMs = this.#reader.take(8).readBigInt64LE();
        return;
      case opcodes.expireSeconds:
        await this.#reader.need(4);
        this.#expireAtMs = BigInt(this.#reader.take(4).readInt32LE()) * 1000n;
        return;
      case opcodes.aux:
        return this.#auxField();
      case opcodes.resizeDatabase:
        return this.#skipLengths(2);
      case opcodes.slotInfo:
        return this.#skipLengths(3);
      case opcodes.idle:
        return this.#skipLengths(1);
      case opcodes.frequency:
        await this.#reader.need(1);
        this.#reader.u8();
        return;
      case opcodes.function:
        return this.#library();
      case opcodes.moduleAux:
        this.#visitor.moduleData(await moduleType(this.#strings));
        return skipModuleValue(this.#strings);
      default:
        throw new TarsError('unsupported-version', 'The RDB holds functions of a preview of Redis 7.0', {
          hint: 'Upgrade the server to a release.',
        });
    }
  }

  async #auxField(): Promise<void> {
    const name = await this.#strings.string(auxLimitBytes);
    const value = await this.#strings.string(auxLimitBytes);
    this.aux.set(name.toString('latin1'), value.toString('latin1'));
    this.#visitor.aux(name.toString('latin1'), value.toString('latin1'));
  }

  async #skipLengths(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.#strings.length();
  }

  async #library(): Promise<void> {
    this.#hasher.text('library');
    await this.#strings.into(this.#hasher);
    this.#visitor.library(this.#hasher.finish());
  }
}
