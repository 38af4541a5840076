import { z } from 'zod';
import { parseLosslessJson, type Metadata } from './record.ts';

export const spaceSchema = z.enum(['l2', 'cosine', 'ip']);
export type Space = z.infer<typeof spaceSchema>;

/** What a collection's own settings say of its distance. */
interface DeclaredSpace {
  readonly space: Space;
  /** Nothing was chosen: then servers go by the `hnsw:` keys of the vector segment, which versions before 1.0 wrote. */
  readonly isDefault: boolean;
}

/** Where a collection keeps its settings: the server's own JSON texts, from an answer or from the tables. */
export interface SettingsTexts {
  readonly schema?: string | null | undefined;
  readonly configuration: string | null;
}

const number = z.coerce.number();
const hnswSchema = z.object({
  ef_construction: number.default(100),
  ef_search: number.default(100),
  max_neighbors: number.default(16),
  resize_factor: number.default(1.2),
  sync_threshold: number.default(1000),
});
const holderSchema = z.object({ space: spaceSchema });
const hnswHolder = z.object({ hnsw: hnswSchema.extend({ space: spaceSchema.default('l2') }) });
const spannHolder = z.object({ spann: holderSchema });
const inSchemaPath = z.object({
  keys: z.object({
    '#embedding': z.object({
      float_list: z.object({
        vector_index: z.object({
          config: holderSchema.extend({ hnsw: hnswSchema.nullish(), spann: z.unknown() }),
        }),
      }),
    }),
  }),
});
const legacyPath = z.object({ hnsw_configuration: holderSchema });

/** `rust/types/src/hnsw_configuration.rs`; the number of threads is the machine's and tells nothing. */
const isDefaultHnsw = (hnsw: z.infer<typeof hnswSchema>): boolean =>
  hnsw.ef_construction === 100 &&
  hnsw.ef_search === 100 &&
  hnsw.max_neighbors === 16 &&
  hnsw.resize_factor === 1.2 &&
  hnsw.sync_threshold === 1000;

/** Reads each generation of Chroma's settings, newest first; `l2` is Chroma's default. */
export function declaredSpace({ schema, configuration }: SettingsTexts): DeclaredSpace {
  const inSchema = inSchemaPath.safeParse(parsedOrNull(schema));
  if (inSchema.success) {
    const { space, hnsw, spann } = inSchema.data.keys['#embedding'].float_list.vector_index.config;
    const isDefault = space === 'l2' && spann == null && isDefaultHnsw(hnsw ?? hnswSchema.parse({}));
    return { space, isDefault };
  }
  const outer = parsedOrNull(configuration);
  // The tables keep it one level deeper than the server answers.
  const stored = z.object({ vector_index: z.unknown() }).safeParse(outer);
  const settings = stored.success ? (stored.data.vector_index ?? outer) : outer;
  const hnsw = hnswHolder.safeParse(settings);
  if (hnsw.success) {
    const { space } = hnsw.data.hnsw;
    return { space, isDefault: space === 'l2' && isDefaultHnsw(hnsw.data.hnsw) };
  }
  const spann = spannHolder.safeParse(settings);
  if (spann.success) return { space: spann.data.spann.space, isDefault: false };
  const legacy = legacyPath.safeParse(settings);
  return { space: legacy.success ? legacy.data.hnsw_configuration.space : 'l2', isDefault: true };
}

/**
 * The distance that servers search by: `hnsw:space` of the vector segment's metadata where nothing else was chosen.
 * @param metadata the segment's; the collection's own is usually equal and may stand for it where it cannot be had
 */
export function spaceOf(settings: SettingsTexts, metadata: Metadata | null): Space {
  const declared = declaredSpace(settings);
  if (!declared.isDefault) return declared.space;
  const inMetadata = spaceSchema.safeParse(metadata?.get('hnsw:space'));
  return inMetadata.success ? inMetadata.data : declared.space;
}

function parsedOrNull(text: string | null | undefined): unknown {
  if (text == null) return null;
  try {
    return parseLosslessJson(text);
  } catch {
    return null;
  }
}
