import { z } from 'zod';
import type { CollectionDigests } from '../digest.ts';
import type { CollectionFacts } from '../facts.ts';
import { decodeMetadata } from '../record.ts';
import { declaredSpace, spaceOf, spaceSchema, type Space } from '../space.ts';
import type { CollectionInfo } from './answers.ts';

/** The distance of a collection, and whether that is certain. */
export interface KnownSpace {
  readonly space: Space;
  /** False where the server does not say it and no record could tell. */
  readonly spaceProven: boolean;
}

/** What the answer of a server of that version says of a collection that it has just made. */
export function spaceOfCreated(collection: CollectionInfo): Space {
  const { configuration, metadata } = collection;
  if (configuration !== null && isCurrentConfiguration(configuration)) return declaredSpace(collection).space;
  return spaceOf(collection, metadata === null ? null : decodeMetadata(metadata));
}

/** True for the configuration of a 1.x server; what 0.5 and 0.6 answer is refused by later servers. */
export function isCurrentConfiguration(text: string): boolean {
  const settings = parsed(text);
  return typeof settings === 'object' && settings !== null && ('hnsw' in settings || 'spann' in settings);
}

const parsed = (text: string): unknown => JSON.parse(text) as unknown;

const configurationSchema = z.looseObject({ hnsw: z.looseObject({ space: spaceSchema }) });
const schemaSchema = z.looseObject({
  keys: z.looseObject({
    '#embedding': z.looseObject({
      float_list: z.looseObject({
        vector_index: z.looseObject({ config: z.looseObject({ space: spaceSchema }) }),
      }),
    }),
  }),
});

/** A configuration as a server answers it, with that distance; as it was where it cannot be set. */
export function configurationWith(text: string, space: Space): string {
  const configuration = configurationSchema.safeParse(parsed(text));
  if (!configuration.success) return text;
  configuration.data.hnsw.space = space;
  return JSON.stringify(configuration.data);
}

/** A schema with that distance; as it was where it cannot be set. */
export function schemaWith(text: string, space: Space): string {
  const schema = schemaSchema.safeParse(parsed(text));
  if (!schema.success) return text;
  schema.data.keys['#embedding'].float_list.vector_index.config.space = space;
  return JSON.stringify(schema.data);
}

/** A collection's part of the facts. */
export function factsOfCollection(
  collection: CollectionInfo,
  known: KnownSpace,
  digests: CollectionDigests,
): CollectionFacts {
  const { id, name, dimension, metadata, configuration, schema } = collection;
  return { ...digests, id, name, dimension, metadata, configuration, schema, ...known };
}
