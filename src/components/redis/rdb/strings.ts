import { CorruptionError, TarsError } from '../../../model/errors.ts';
import type { ByteReader } from './byte-reader.ts';
import { decompressLzf, LzfStream } from './lzf.ts';
import type { PartHasher } from './part-hasher.ts';

/** The longest length field: a marker and eight bytes. Before the end marker at least as many always follow. */
const lengthFieldBytes = 9;
/** Strings up to this size are taken whole; longer ones stream. */
const wholeBytes = 1 << 16;

/** String encodings marked by the two top bits of a length (`RDB_ENC_*` in `src/rdb.h`). */
const encodings = { int8: 0, int16: 1, int32: 2, lzf: 3 } as const;

/** Reads lengths and strings of an RDB file (the comment on top of `src/rdb.h` describes them). */
export class RdbStrings {
  readonly reader: ByteReader;

  constructor(reader: ByteReader) {
    this.reader = reader;
  }

  /** A plain length. @throws CorruptionError when it marks an encoded string */
  async length(): Promise<number> {
    await this.reader.need(lengthFieldBytes);
    const length = this.#length();
    if (length < 0) throw this.damaged('a string encoding is in the place of a length');
    return length;
  }

  /** A length that may exceed 2^53, such as the time of a stream id. */
  async length64(): Promise<bigint> {
    await this.reader.need(lengthFieldBytes);
    if (this.reader.peek() !== 0x81) return BigInt(await this.length());
    this.reader.u8();
    return this.reader.take(8).readBigUInt64BE();
  }

  /** A whole string. @throws TarsError `unsupported-version` when it is longer than `limitBytes` */
  async string(limitBytes: number): Promise<Buffer> {
    await this.reader.need(lengthFieldBytes);
    const length = this.#length();
    if (length >= 0) {
      this.#limit(length, limitBytes);
      await this.reader.need(length);
      return this.reader.take(length);
    }
    const encoding = -1 - length;
    if (encoding !== encodings.lzf) return this.#integer(encoding);
    const compressedBytes = await this.length();
    const sizeBytes = await this.length();
    this.#limit(Math.max(sizeBytes, compressedBytes), limitBytes);
    await this.reader.need(compressedBytes);
    return decompressLzf(this.reader.take(compressedBytes), sizeBytes);
  }

  /** Hashes a string of any length as one part, decoded and decompressed. Returns its length. */
  async into(hasher: PartHasher): Promise<number> {
    await this.reader.need(lengthFieldBytes);
    const length = this.#length();
    if (length >= 0) return this.#plainInto(hasher, length);
    const encoding = -1 - length;
    if (encoding === encodings.lzf) return this.#compressedInto(hasher);
    const digits = this.#integer(encoding);
    hasher.part(digits);
    return digits.length;
  }

  /** Passes over a string of any length. */
  async skip(): Promise<void> {
    await this.reader.need(lengthFieldBytes);
    const length = this.#length();
    if (length < 0 && -1 - length !== encodings.lzf) {
      this.#integer(-1 - length);
      return;
    }
    let left = length;
    if (length < 0) {
      left = await this.length();
      await this.length();
    }
    for await (const piece of this.reader.pieces(left)) left -= piece.length;
  }

  damaged(what: string): CorruptionError {
    return new CorruptionError(`The RDB is damaged before byte ${this.reader.offset}: ${what}`);
  }

  /** A length, or -1 minus the encoding of the string that follows. Requires `need(9)`. */
  #length(): number {
    const first = this.reader.u8();
    switch (first >> 6) {
      case 0:
        return first & 63;
      case 1:
        return ((first & 63) << 8) | this.reader.u8();
      case 2:
        return this.#longLength(first);
      default:
        return -1 - (first & 63);
    }
  }

  #longLength(first: number): number {
    if (first === 0x80) return this.reader.take(4).readUInt32BE();
    const length = first === 0x81 ? this.reader.take(8).readBigUInt64BE() : -1n;
    if (length < 0n || length > BigInt(Number.MAX_SAFE_INTEGER)) throw this.damaged('a length is impossible');
    return Number(length);
  }

  /** Integers stand for their decimal digits. Requires `need(4)`. */
  #integer(encoding: number): Buffer {
    switch (encoding) {
      case encodings.int8:
        return Buffer.from(String(this.reader.take(1).readInt8()));
      case encodings.int16:
        return Buffer.from(String(this.reader.take(2).readInt16LE()));
      case encodings.int32:
        return Buffer.from(String(this.reader.take(4).readInt32LE()));
      default:
        throw this.damaged(`string encoding ${encoding} does not exist`);
    }
  }

  async #plainInto(hasher: PartHasher, length: number): Promise<number> {
    if (length <= wholeBytes) {
      await this.reader.need(length);
      hasher.part(this.reader.take(length));
      return length;
    }
    hasher.beginPart(length);
    for await (const piece of this.reader.pieces(length)) hasher.continuePart(piece);
    return length;
  }

  async #compressedInto(hasher: PartHasher): Promise<number> {
    const compressedBytes = await this.length();
    const sizeBytes = await this.length();
    if (sizeBytes <= wholeBytes && compressedBytes <= wholeBytes) {
      await this.reader.need(compressedBytes);
      hasher.part(decompressLzf(this.reader.take(compressedBytes), sizeBytes));
      return sizeBytes;
    }
    hasher.beginPart(sizeBytes);
    const inflater = new LzfStream((piece) => {
      hasher.continuePart(piece);
    });
    for await (const piece of this.reader.pieces(compressedBytes)) inflater.write(piece);
    inflater.end(sizeBytes);
    return sizeBytes;
  }

  #limit(sizeBytes: number, limitBytes: number): void {
    if (sizeBytes <= limitBytes) return;
    throw new TarsError(
      'unsupported-version',
      `The RDB holds a packed value or key of ${sizeBytes} bytes before byte ${this.reader.offset}, more than the ${limitBytes} this tars reads`,
      { hint: 'Lower the *-max-listpack-* limits of the server, or report this.' },
    );
  }
}
