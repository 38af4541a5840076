import type { OperationContext } from '../../../ports/context.ts';
import type { ChromaRecord } from '../record.ts';
import type { Space } from '../space.ts';
import type { ChromaClient } from './client.ts';
import type { CollectionInfo } from './answers.ts';
import type { LiveCollection } from './facts.ts';

const nearestWanted = 10;
const distanceTolerance = 1e-4;

/** One answer to a search. */
export interface SearchHit {
  readonly id: string;
  readonly distance: number | null;
}

/** Searches for each sampled record's own vector. @returns the ids of those that were not found */
export async function probeSearch(
  client: ChromaClient,
  collection: CollectionInfo,
  { facts, sample }: Pick<LiveCollection, 'facts' | 'sample'>,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const missed: string[] = [];
  const resultCount = Math.min(nearestWanted, facts.recordCount);
  for (const record of sample) {
    if (record.vector === null || !isSearchable(record.vector, facts.space)) continue;
    const hits = await client.query(collection, collection.id, record.vector, resultCount, ctx);
    if (!findsRecord(hits, { id: record.id, vector: record.vector }, resultCount, facts.space)) {
      missed.push(record.id);
    }
  }
  return missed;
}

/**
 * A vector of length zero has no direction, so that a cosine distance from it means nothing; distances of one so long
 * that its square leaves float32 overflow, and the server sorts them anyhow.
 */
export function isSearchable(vector: Float32Array, space: Space): boolean {
  if (space === 'cosine') return vector.some((component) => component !== 0);
  return Number.isFinite(Math.fround(vector.reduce((sum, component) => sum + component * component, 0)));
}

/**
 * True when a search for a record's own vector found it, or found as many others that lie as near: with duplicates,
 * or by inner product (where a longer vector beats the own one), the record need not be among the nearest.
 */
export function findsRecord(
  hits: readonly SearchHit[],
  { id, vector }: Pick<ChromaRecord, 'id'> & { readonly vector: Float32Array },
  resultCount: number,
  space: Space,
): boolean {
  if (hits.some((hit) => hit.id === id)) return true;
  const squaredLength = vector.reduce((sum, component) => sum + component * component, 0);
  const ownDistance = space === 'ip' ? 1 - squaredLength : 0;
  const tolerance = distanceTolerance * Math.max(1, squaredLength);
  const asNear = hits.filter(({ distance }) => isAsNear(distance, ownDistance + tolerance, space));
  return asNear.length >= resultCount;
}

/** An inner product that overflows float32 comes as `null`: nothing lies nearer. */
function isAsNear(distance: number | null, limit: number, space: Space): boolean {
  return distance === null ? space === 'ip' : distance <= limit;
}
