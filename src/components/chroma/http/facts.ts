import type { OperationContext } from '../../../ports/context.ts';
import { CollectionDigester } from '../digest.ts';
import type { CollectionFacts } from '../facts.ts';
import type { ChromaRecord } from '../record.ts';
import type { ChromaClient } from './client.ts';
import type { CollectionInfo } from './answers.ts';
import { factsOfCollection } from './collection-settings.ts';
import { findSpace } from './space-probe.ts';
import { CollectionGoneError, readRecords } from './record-reader.ts';

/** A collection read through the API, record by record, in bounded memory. */
export interface LiveCollection {
  readonly facts: CollectionFacts;
  /** What `count` says, which is another query than the reading. */
  readonly count: number;
  /** Records whose vector has another dimension than the collection. */
  readonly oddDimensions: number;
  /** Some records spread over the whole collection, always the same for the same ids. */
  readonly sample: readonly ChromaRecord[];
}

/** Reads all of a collection. @throws CollectionGoneError */
export async function readLiveCollection(
  client: ChromaClient,
  collection: CollectionInfo,
  sampleSize: number,
  ctx: OperationContext,
): Promise<LiveCollection> {
  const ids = await client.listIds(collection, collection.id, ctx);
  if (ids === undefined) throw new CollectionGoneError(collection);
  const count = await client.count(collection, collection.id, ctx);
  const known = await findSpace(client, collection, ids, ctx);
  const wanted = spread(ids, sampleSize);
  const digester = new CollectionDigester();
  const sample: ChromaRecord[] = [];
  let oddDimensions = 0;
  for await (const records of readRecords(client, collection, ids, ctx)) {
    for (const record of records) {
      digester.add(record);
      if (record.vector !== null && record.vector.length !== collection.dimension) oddDimensions++;
      if (wanted.has(record.id)) sample.push(record);
    }
  }
  return { facts: factsOfCollection(collection, known, digester.result()), count, oddDimensions, sample };
}

function spread(ids: readonly string[], size: number): ReadonlySet<string> {
  const stride = Math.max(1, Math.floor(ids.length / Math.max(1, size)));
  return new Set(ids.filter((_, i) => i % stride === 0).slice(0, size));
}
