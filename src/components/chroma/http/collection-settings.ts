import { z } from 'zod';
import { spaceSchema, type CollectionFacts, type Space } from '../facts.ts';
import type { CollectionDigests } from '../digest.ts';
import { decodeMetadata } from '../record.ts';
import type { CollectionInfo } from './answers.ts';

const spaceHolder = z.object({ space: spaceSchema });
const inSchemaPath = z.object({
  keys: z.object({
    '#embedding': z.object({
      float_list: z.object({ vector_index: z.object({ config: spaceHolder }) }),
    }),
  }),
});
const hnswPath = z.object({ hnsw: spaceHolder });
const spannPath = z.object({ spann: spaceHolder });
const legacyPath = z.object({ hnsw_configuration: spaceHolder });

type Settings = Pick<CollectionInfo, 'schema' | 'configuration' | 'metadata'>;

/** The distance that a collection is searched by, as the server's answer tells it; `l2` is Chroma's default. */
export function spaceOfCollection({ schema, configuration, metadata }: Settings): Space {
  const inSchema = inSchemaPath.safeParse(parsed(schema));
  if (inSchema.success) return inSchema.data.keys['#embedding'].float_list.vector_index.config.space;
  const settings = parsed(configuration);
  const hnsw = hnswPath.safeParse(settings);
  if (hnsw.success) return hnsw.data.hnsw.space;
  const spann = spannPath.safeParse(settings);
  if (spann.success) return spann.data.spann.space;
  const inMetadata = spaceSchema.safeParse(
    metadata === null ? undefined : decodeMetadata(metadata).get('hnsw:space'),
  );
  if (inMetadata.success) return inMetadata.data;
  const legacy = legacyPath.safeParse(settings);
  return legacy.success ? legacy.data.hnsw_configuration.space : 'l2';
}

const parsed = (text: string | null): unknown => (text === null ? null : (JSON.parse(text) as unknown));

/** True for the configuration of a 1.x server; what 0.5 and 0.6 answer is refused by later servers. */
export function isCurrentConfiguration(text: string): boolean {
  const settings = parsed(text);
  return typeof settings === 'object' && settings !== null && ('hnsw' in settings || 'spann' in settings);
}

/** A collection's part of the facts. */
export function factsOfCollection(collection: CollectionInfo, digests: CollectionDigests): CollectionFacts {
  const { id, name, dimension, metadata, configuration, schema } = collection;
  const space = spaceOfCollection(collection);
  return { ...digests, id, name, dimension, metadata, configuration, schema, space };
}
