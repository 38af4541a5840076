import type { OperationContext } from '../../../ports/context.ts';
import { decodeMetadata, type ChromaRecord } from '../record.ts';
import { declaredSpace, spaceOf, type Space } from '../space.ts';
import type { CollectionInfo } from './answers.ts';
import type { ChromaClient } from './client.ts';
import type { KnownSpace } from './collection-settings.ts';
import { ChromaResponseError } from './transport.ts';

const recordsTried = 5;
const hitsCompared = 5;
const probeBytesMax = 64 << 20;
/** Of a distance, relative to the lengths it is made of: float32 sums of thousands of components. */
const tolerance = 1e-3;

type Vectored = ChromaRecord & { readonly vector: Float32Array };

/**
 * The distance that a collection is searched by. Where its settings are Chroma's defaults, a server goes by the
 * metadata of the vector segment, which the API does not show: then a search for the double of a record's vector tells.
 */
export async function findSpace(
  client: ChromaClient,
  collection: CollectionInfo,
  ids: readonly string[],
  ctx: OperationContext,
): Promise<KnownSpace> {
  const declared = declaredSpace(collection);
  if (!declared.isDefault) return { space: declared.space, spaceProven: true };
  const measured = await measureSpace(client, collection, ids, ctx);
  if (measured !== undefined) return { space: measured, spaceProven: true };
  const metadata = collection.metadata === null ? null : decodeMetadata(collection.metadata);
  return { space: spaceOf(collection, metadata), spaceProven: false };
}

async function measureSpace(
  client: ChromaClient,
  collection: CollectionInfo,
  ids: readonly string[],
  ctx: OperationContext,
): Promise<Space | undefined> {
  try {
    for (const { vector } of await vectored(client, collection, ids.slice(0, recordsTried), ctx)) {
      const doubled = vector.map((component) => 2 * component);
      const wanted = Math.min(hitsCompared, ids.length);
      const hits = await client.query(collection, collection.id, doubled, wanted, ctx);
      const hitIds = hits.map(({ id }) => id);
      const distances = new Map(hits.map(({ id, distance }) => [id, distance]));
      const found = await vectored(client, collection, hitIds, ctx);
      const fitting = spacesThatFit(doubled, found, distances);
      if (fitting.length === 1) return fitting[0];
    }
  } catch (error) {
    // What the server cannot search is found by those who read all of it.
    if (!(error instanceof ChromaResponseError)) throw error;
  }
  return undefined;
}

async function vectored(
  client: ChromaClient,
  collection: CollectionInfo,
  ids: readonly string[],
  ctx: OperationContext,
): Promise<readonly Vectored[]> {
  if (ids.length === 0) return [];
  const request = { ids, embeddings: true, maxResponseBytes: probeBytesMax };
  const answer = await client.getRecords(collection, collection.id, request, ctx);
  return (answer?.records ?? []).filter((record): record is Vectored => record.vector !== null);
}

/** The distances that give, for all records found, what the server answered. */
function spacesThatFit(
  query: Float32Array,
  found: readonly Pick<Vectored, 'id' | 'vector'>[],
  distances: ReadonlyMap<string, number | null>,
): readonly Space[] {
  const compared = found.filter(({ id }) => Number.isFinite(distances.get(id)));
  if (compared.length === 0) return [];
  return (['l2', 'cosine', 'ip'] as const).filter((space) =>
    compared.every(({ id, vector }) => {
      const lengths = Math.max(dot(query, query), dot(vector, vector));
      const scale = space === 'l2' ? lengths : space === 'ip' ? Math.max(1, lengths) : 1;
      const distance = distanceBetween(space, query, vector);
      return Math.abs(distance - (distances.get(id) ?? Number.NaN)) <= tolerance * scale;
    }),
  );
}

function distanceBetween(space: Space, a: Float32Array, b: Float32Array): number {
  if (space === 'ip') return 1 - dot(a, b);
  if (space === 'cosine') return 1 - dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  return dot(a, a) - 2 * dot(a, b) + dot(b, b);
}

const dot = (a: Float32Array, b: Float32Array): number =>
  a.reduce((sum, component, i) => sum + component * (b[i] ?? 0), 0);
