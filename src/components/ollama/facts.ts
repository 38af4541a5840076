import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';
import { isManifestPath } from './model-store.ts';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const storedModel = z.object({
  name: z.string(),
  path: z.string().refine(isManifestPath, 'leads out of the store'),
  digest: sha256,
  origin: z.enum(['pulled', 'local']),
  /** `model`: manifest and blobs; `manifest`: to be pulled again; `none`: only listed here. */
  stored: z.enum(['model', 'manifest', 'none']),
  blobs: z.array(z.object({ sha256, sizeBytes: z.number().int().nonnegative() })),
});

/** What an Ollama capture leaves in the manifest: enough to plan, restore and verify without the artifacts. */
const factsSchema = z.object({
  mode: z.enum(['none', 'list', 'all']),
  models: z.array(storedModel),
  /** Models that could not run where they were, and so were not captured. */
  incomplete: z.array(z.object({ name: z.string(), reason: z.string() })),
});

export type OllamaFacts = z.infer<typeof factsSchema>;
/** What the manifest says of one model. */
export type StoredModel = OllamaFacts['models'][number];

/** @throws CorruptionError when the manifest's facts are not those of an Ollama capture */
export function parseOllamaFacts(facts: Readonly<Record<string, unknown>>, component: string): OllamaFacts {
  const parsed = factsSchema.safeParse(facts);
  if (parsed.success) return parsed.data;
  throw new CorruptionError(`The facts of ${component} are not those of an Ollama capture`, {
    cause: parsed.error,
  });
}
