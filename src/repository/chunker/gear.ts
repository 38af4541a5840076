import { createHmac } from 'node:crypto';

/** 256 random words, one for each byte value. Signed, so that they never leave the range of small integers. */
export type GearTable = Int32Array;

/**
 * A repository's gear table. It follows from the secret polynomial, so that the lengths of chunks tell nothing
 * about known files to whoever sees only the repository, and from nothing else, so that every run cuts alike.
 */
export function deriveGearTable(chunkerPolynomial: bigint): GearTable {
  const table = new Int32Array(256);
  for (let block = 0; block < 32; block++) {
    const digest = createHmac('sha256', chunkerPolynomial.toString(16)).update(`tars gear ${block}`).digest();
    for (let word = 0; word < 8; word++) table[block * 8 + word] = digest.readInt32LE(word * 4);
  }
  return table;
}

/** The hash is a shift register: after this many bytes the oldest one has left it. */
const windowBytes = 32;

/**
 * The length of the next chunk: at least a quarter of the average, at most eight times it (and never beyond
 * `end`). The condition is stricter before the average and laxer behind it, which draws lengths towards it (Xia et
 * al., "FastCDC", USENIX ATC 2016, normalised chunking).
 * @param averageBytes a power of two
 */
export function cutGear(
  table: GearTable,
  averageBytes: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  const shortest = start + averageBytes / 4;
  if (end <= shortest) return end - start;
  const longest = Math.min(end, start + Math.min(averageBytes * 8, 8 << 20));
  const average = Math.min(longest, start + averageBytes);
  const bits = Math.log2(averageBytes);
  // The upper bits depend on the most bytes.
  const strict = highBits(bits + 1);
  const lax = highBits(bits - 1);
  let hash = 0;
  let at = shortest - windowBytes;
  for (; at < shortest; at++) hash = ((hash << 1) + (table[bytes[at] as number] as number)) | 0;
  for (; at < average; at++) {
    hash = ((hash << 1) + (table[bytes[at] as number] as number)) | 0;
    if ((hash & strict) === 0) return at + 1 - start;
  }
  for (; at < longest; at++) {
    hash = ((hash << 1) + (table[bytes[at] as number] as number)) | 0;
    if ((hash & lax) === 0) return at + 1 - start;
  }
  return longest - start;
}

function highBits(count: number): number {
  return (-1 << (32 - count)) | 0;
}
