import { CorruptionError } from '../../../model/errors.ts';

const damaged = (what: string): CorruptionError => new CorruptionError(`A ${what} in the RDB is damaged`);

const digits = (value: bigint | number): Buffer => Buffer.from(value.toString());

const endMarker = 0xff;

/** Turns reads beyond the end into what they mean here. */
function* guarded(what: string, elements: Generator<Buffer, void>): Generator<Buffer, undefined> {
  try {
    yield* elements;
  } catch (cause) {
    if (cause instanceof RangeError) throw damaged(what);
    throw cause;
  }
}

/** Elements of a listpack, integers as their decimal digits. Format: `src/listpack.c` of Redis, `LP_ENCODING_*`. */
export function listpack(bytes: Buffer): Generator<Buffer, void> {
  return guarded('listpack', listpackElements(bytes));
}

function* listpackElements(bytes: Buffer): Generator<Buffer, void> {
  if (bytes.readUInt32LE(0) !== bytes.length) throw damaged('listpack');
  let at = 6;
  for (;;) {
    const first = bytes.readUInt8(at);
    if (first === endMarker) break;
    const { value, sizeBytes } = listpackElement(bytes, at, first);
    yield value;
    at += sizeBytes + backLengthBytes(sizeBytes);
  }
  if (at !== bytes.length - 1) throw damaged('listpack');
}

interface PackedElement {
  readonly value: Buffer;
  readonly sizeBytes: number;
}

function listpackElement(bytes: Buffer, at: number, first: number): PackedElement {
  if (first < 0x80) return { value: digits(first), sizeBytes: 1 };
  if (first < 0xc0) return text(bytes, at + 1, first & 0x3f, 1);
  if (first < 0xe0) {
    const raw = ((first & 0x1f) << 8) | bytes.readUInt8(at + 1);
    return { value: digits(raw >= 1 << 12 ? raw - (1 << 13) : raw), sizeBytes: 2 };
  }
  if (first < 0xf0) return text(bytes, at + 2, ((first & 0x0f) << 8) | bytes.readUInt8(at + 1), 2);
  switch (first) {
    case 0xf0:
      return text(bytes, at + 5, bytes.readUInt32LE(at + 1), 5);
    case 0xf1:
      return { value: digits(bytes.readInt16LE(at + 1)), sizeBytes: 3 };
    case 0xf2:
      return { value: digits(bytes.readIntLE(at + 1, 3)), sizeBytes: 4 };
    case 0xf3:
      return { value: digits(bytes.readInt32LE(at + 1)), sizeBytes: 5 };
    case 0xf4:
      return { value: digits(bytes.readBigInt64LE(at + 1)), sizeBytes: 9 };
    default:
      throw damaged('listpack');
  }
}

function text(bytes: Buffer, from: number, length: number, headerBytes: number): PackedElement {
  if (from + length > bytes.length) throw new RangeError('beyond the end');
  return { value: bytes.subarray(from, from + length), sizeBytes: headerBytes + length };
}

/** An element's own length follows it in groups of seven bits, with the bounds `lpEncodeBacklen` uses. */
function backLengthBytes(sizeBytes: number): number {
  if (sizeBytes <= 127) return 1;
  if (sizeBytes < 16_383) return 2;
  if (sizeBytes < 2_097_151) return 3;
  return sizeBytes < 268_435_455 ? 4 : 5;
}

/** Elements of a ziplist (Redis up to 6.2), integers as their digits. Format: head of `src/ziplist.c`. */
export function ziplist(bytes: Buffer): Generator<Buffer, void> {
  return guarded('ziplist', ziplistElements(bytes));
}

function* ziplistElements(bytes: Buffer): Generator<Buffer, void> {
  if (bytes.readUInt32LE(0) !== bytes.length) throw damaged('ziplist');
  let at = 10;
  for (;;) {
    const previousLength = bytes.readUInt8(at);
    if (previousLength === endMarker) break;
    at += previousLength === 0xfe ? 5 : 1;
    const { value, sizeBytes } = ziplistElement(bytes, at);
    yield value;
    at += sizeBytes;
  }
  if (at !== bytes.length - 1) throw damaged('ziplist');
}

function ziplistElement(bytes: Buffer, at: number): PackedElement {
  const first = bytes.readUInt8(at);
  switch (first >> 6) {
    case 0:
      return text(bytes, at + 1, first & 0x3f, 1);
    case 1:
      return text(bytes, at + 2, ((first & 0x3f) << 8) | bytes.readUInt8(at + 1), 2);
    case 2:
      return text(bytes, at + 5, bytes.readUInt32BE(at + 1), 5);
    default:
      return ziplistInteger(bytes, at, first);
  }
}

function ziplistInteger(bytes: Buffer, at: number, first: number): PackedElement {
  switch (first) {
    case 0xc0:
      return { value: digits(bytes.readInt16LE(at + 1)), sizeBytes: 3 };
    case 0xd0:
      return { value: digits(bytes.readInt32LE(at + 1)), sizeBytes: 5 };
    case 0xe0:
      return { value: digits(bytes.readBigInt64LE(at + 1)), sizeBytes: 9 };
    case 0xf0:
      return { value: digits(bytes.readIntLE(at + 1, 3)), sizeBytes: 4 };
    case 0xfe:
      return { value: digits(bytes.readInt8(at + 1)), sizeBytes: 2 };
    default:
      if (first < 0xf1 || first > 0xfd) throw damaged('ziplist');
      return { value: digits((first & 0x0f) - 1), sizeBytes: 1 };
  }
}

/** Members of an intset as their digits. Format: `src/intset.h`: width, count, then little-endian integers. */
export function* intset(bytes: Buffer): Generator<Buffer, void> {
  const width = bytes.length < 8 ? 0 : bytes.readUInt32LE(0);
  const count = bytes.length < 8 ? 0 : bytes.readUInt32LE(4);
  if (![2, 4, 8].includes(width) || bytes.length !== 8 + width * count) throw damaged('intset');
  for (let at = 8; at < bytes.length; at += width) {
    yield digits(width === 8 ? bytes.readBigInt64LE(at) : bytes.readIntLE(at, width));
  }
}
