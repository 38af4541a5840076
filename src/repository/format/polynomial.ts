import { randomBytes } from 'node:crypto';

/** Polynomials over GF(2) as bigints: bit n is the coefficient of x^n. */

/** The degree restic's chunker uses, so that the polynomial fits 64 bits with a byte to spare. */
const chunkerDegree = 53;

/** A random irreducible polynomial of degree 53. About one in 53 candidates is irreducible. */
export function randomIrreducible(): bigint {
  for (;;) {
    const random = randomBytes(8).readBigUInt64LE() & ((1n << BigInt(chunkerDegree)) - 1n);
    // The constant term must be 1: otherwise x divides it.
    const candidate = random | (1n << BigInt(chunkerDegree)) | 1n;
    if (isIrreducible(candidate)) return candidate;
  }
}

/** Ben-Or's test: f is irreducible when it shares no factor with x^(2^i) - x for any i up to half its degree. */
export function isIrreducible(f: bigint): boolean {
  const degree = degreeOf(f);
  if (degree < 1) return false;
  let power = 2n;
  for (let i = 1; i <= degree / 2; i++) {
    power = remainder(square(power), f);
    if (greatestCommonDivisor(f, remainder(power ^ 2n, f)) !== 1n) return false;
  }
  return true;
}

function degreeOf(f: bigint): number {
  return f === 0n ? -1 : f.toString(2).length - 1;
}

/** Over GF(2) squaring only spreads the coefficients out. */
function square(f: bigint): bigint {
  return BigInt(`0b${f.toString(2).split('').join('0')}`);
}

function remainder(f: bigint, divisor: bigint): bigint {
  const degree = degreeOf(divisor);
  let rest = f;
  for (let excess = degreeOf(rest) - degree; excess >= 0; excess = degreeOf(rest) - degree) {
    rest ^= divisor << BigInt(excess);
  }
  return rest;
}

function greatestCommonDivisor(f: bigint, g: bigint): bigint {
  let [a, b] = [f, g];
  while (b !== 0n) [a, b] = [b, remainder(a, b)];
  return a;
}
