import { hash } from 'node:crypto';
import { z } from 'zod';
import { counted } from '../../model/plural.ts';
import { encodeMetadata, type ChromaRecord } from './record.ts';

const laneCount = 8;
/** How far two vector sketches may lie apart, as a share of their scale; 1 ulp of float32 is about 1.2e-7. */
const sketchTolerance = 1e-5;
const digestModulus = 1n << 256n;

const digestSchema = z.string().regex(/^[0-9a-f]{64}$/);

/**
 * Order-free digests of a collection's content. `idsDigest`, `contentDigest` (id, document, URI, metadata) and
 * `vectorsDigest` (id, float32 bytes) are the sum modulo 2^256 of one SHA-256 per record. Chroma keeps cosine
 * vectors normalised beside their length, so that they come back up to 1 ulp away: `vectorsSketch` holds weighted
 * sums that can be compared with a tolerance and still show a single missing or exchanged vector.
 */
export const collectionDigestsSchema = z.object({
  recordCount: z.number().int().nonnegative(),
  /** Records that have a vector; equal to `recordCount` unless the store is damaged. */
  vectorCount: z.number().int().nonnegative(),
  idsDigest: digestSchema,
  contentDigest: digestSchema,
  vectorsDigest: digestSchema,
  vectorsSketch: z.object({
    sums: z.array(z.number()).length(laneCount),
    /** Root of the summed squares of what was added: the size a sum has by chance. */
    scale: z.number().nonnegative(),
  }),
});
export type CollectionDigests = z.infer<typeof collectionDigestsSchema>;

const hex = (value: bigint): string => value.toString(16).padStart(64, '0');

/** Digests records one by one, in any order, in constant memory. */
export class CollectionDigester {
  #records = 0;
  #vectors = 0;
  #ids = 0n;
  #content = 0n;
  #vectorBytes = 0n;
  readonly #sums = new Float64Array(laneCount);
  #squares = 0;

  add(record: ChromaRecord): void {
    const id = hash('sha256', record.id);
    this.#records += 1;
    this.#ids = (this.#ids + BigInt(`0x${id}`)) % digestModulus;
    const content = `${JSON.stringify([record.id, record.document, record.uri])}${encodeMetadata(record.metadata)}`;
    this.#content = (this.#content + BigInt(`0x${hash('sha256', content)}`)) % digestModulus;
    if (record.vector !== null) this.#addVector(id, record.vector);
  }

  #addVector(idHash: string, vector: Float32Array): void {
    this.#vectors += 1;
    const bytes = Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);
    const digest = hash('sha256', Buffer.concat([Buffer.from(idHash, 'hex'), bytes]));
    this.#vectorBytes = (this.#vectorBytes + BigInt(`0x${digest}`)) % digestModulus;
    // A weight in [-1, 1) from the id makes two exchanged vectors visible.
    const weight = Number.parseInt(idHash.slice(0, 8), 16) / 2 ** 31 - 1;
    let absolute = 0;
    for (let i = 0; i < vector.length; i++) {
      const part = weight * (vector[i] ?? 0);
      const lane = i % laneCount;
      this.#sums[lane] = (this.#sums[lane] ?? 0) + part;
      absolute += Math.abs(part);
    }
    this.#squares += absolute * absolute;
  }

  result(): CollectionDigests {
    return {
      recordCount: this.#records,
      vectorCount: this.#vectors,
      idsDigest: hex(this.#ids),
      contentDigest: hex(this.#content),
      vectorsDigest: hex(this.#vectorBytes),
      vectorsSketch: { sums: [...this.#sums], scale: Math.sqrt(this.#squares) },
    };
  }
}

/** A difference between two digests of the same collection. */
interface DigestDifference {
  readonly code:
    'record-count-differs' | 'ids-differ' | 'content-differs' | 'vectors-missing' | 'vectors-differ';
  readonly message: string;
}

/**
 * Compares what was captured with what is there.
 * @param vectors `exact` for the same files read again; `tolerant` after a server rewrote or re-encoded them
 */
export function compareDigests(
  expected: CollectionDigests,
  actual: CollectionDigests,
  vectors: 'exact' | 'tolerant',
): readonly DigestDifference[] {
  const differences: DigestDifference[] = [];
  if (actual.recordCount !== expected.recordCount) {
    const message = `expected ${counted(expected.recordCount, 'record')}, found ${actual.recordCount}`;
    differences.push({ code: 'record-count-differs', message });
  } else if (actual.idsDigest !== expected.idsDigest) {
    differences.push({ code: 'ids-differ', message: 'the record ids differ from the captured ones' });
  }
  if (actual.contentDigest !== expected.contentDigest) {
    differences.push({
      code: 'content-differs',
      message: 'documents or metadata differ from the captured ones',
    });
  }
  if (actual.vectorCount !== expected.vectorCount) {
    const message = `expected ${expected.vectorCount} vectors, found ${actual.vectorCount}`;
    differences.push({ code: 'vectors-missing', message });
  } else if (!sameVectors(expected, actual, vectors)) {
    differences.push({ code: 'vectors-differ', message: 'the vectors differ from the captured ones' });
  }
  return differences;
}

function sameVectors(
  expected: CollectionDigests,
  actual: CollectionDigests,
  mode: 'exact' | 'tolerant',
): boolean {
  if (expected.vectorsDigest === actual.vectorsDigest) return true;
  if (mode === 'exact') return false;
  const tolerance = sketchTolerance * Math.max(expected.vectorsSketch.scale, Number.MIN_VALUE);
  return expected.vectorsSketch.sums.every(
    (sum, lane) => Math.abs(sum - (actual.vectorsSketch.sums[lane] ?? Number.NaN)) <= tolerance,
  );
}
