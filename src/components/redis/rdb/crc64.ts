/**
 * CRC-64 as Redis computes it for RDB files: polynomial of Jones, reflected, initial value and final xor 0
 * (`src/crc64.c` in the Redis sources; its check value for `123456789` is e9c6d914c4b8d9ca).
 *
 * The register is kept as two unsigned 32-bit halves, and eight bytes are taken at a time ("slicing by 8"), because
 * 64-bit integers in JavaScript are about a hundred times slower.
 */
const reflectedPolynomial = 0x95ac9329ac4bc9b5n;

/** Table k maps a byte to its effect k bytes further on; low and high halves apart. */
interface SlicingTable {
  readonly low: Uint32Array;
  readonly high: Uint32Array;
}

function firstTable(): SlicingTable {
  const low = new Uint32Array(256);
  const high = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let remainder = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) {
      remainder = (remainder & 1n) === 1n ? (remainder >> 1n) ^ reflectedPolynomial : remainder >> 1n;
    }
    low[byte] = Number(remainder & 0xffffffffn);
    high[byte] = Number(remainder >> 32n);
  }
  return { low, high };
}

function nextTable(previous: SlicingTable, first: SlicingTable): SlicingTable {
  const low = new Uint32Array(256);
  const high = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    const l = at(previous.low, byte);
    const h = at(previous.high, byte);
    low[byte] = ((l >>> 8) | (h << 24)) ^ at(first.low, l & 255);
    high[byte] = (h >>> 8) ^ at(first.high, l & 255);
  }
  return { low, high };
}

// Every index below is masked to a byte and every table has 256 entries.
const at = (table: Uint32Array, index: number): number => table[index] as number;

const t0 = firstTable();
const t1 = nextTable(t0, t0);
const t2 = nextTable(t1, t0);
const t3 = nextTable(t2, t0);
const t4 = nextTable(t3, t0);
const t5 = nextTable(t4, t0);
const t6 = nextTable(t5, t0);
const t7 = nextTable(t6, t0);

/** A running CRC-64/Jones. */
export class Crc64 {
  #low = 0;
  #high = 0;

  update(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const slicedEnd = bytes.length - (bytes.length % 8);
    let low = this.#low;
    let high = this.#high;
    for (let i = 0; i < slicedEnd; i += 8) {
      const a = low ^ view.getInt32(i, true);
      const b = high ^ view.getInt32(i + 4, true);
      low =
        at(t7.low, a & 255) ^
        at(t6.low, (a >>> 8) & 255) ^
        at(t5.low, (a >>> 16) & 255) ^
        at(t4.low, a >>> 24) ^
        at(t3.low, b & 255) ^
        at(t2.low, (b >>> 8) & 255) ^
        at(t1.low, (b >>> 16) & 255) ^
        at(t0.low, b >>> 24);
      high =
        at(t7.high, a & 255) ^
        at(t6.high, (a >>> 8) & 255) ^
        at(t5.high, (a >>> 16) & 255) ^
        at(t4.high, a >>> 24) ^
        at(t3.high, b & 255) ^
        at(t2.high, (b >>> 8) & 255) ^
        at(t1.high, (b >>> 16) & 255) ^
        at(t0.high, b >>> 24);
    }
    for (let i = slicedEnd; i < bytes.length; i++) {
      const byte = (low ^ view.getUint8(i)) & 255;
      low = ((low >>> 8) | (high << 24)) ^ at(t0.low, byte);
      high = (high >>> 8) ^ at(t0.high, byte);
    }
    this.#low = low;
    this.#high = high;
  }

  get value(): bigint {
    return (BigInt(this.#high >>> 0) << 32n) | BigInt(this.#low >>> 0);
  }
}
