import { isAbsolute, normalize } from 'node:path';
import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';

const fileSchema = z.object({
  path: z.string().refine((path) => isAbsolute(path) && normalize(path) === path, 'is not an absolute path'),
  mode: z.number().int().nonnegative().max(0o7777),
  uid: z.number().int().nonnegative(),
  gid: z.number().int().nonnegative(),
  /** Nanoseconds since the Unix epoch, decimal. */
  mtimeNs: z.string().regex(/^-?\d+$/),
  /**
   * SHA-256 and length of the true content. Only in an encrypted repository: in the clear they would let anybody
   * test guesses of a short secret, and the length alone tells a password's.
   */
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
  sizeBytes: z.number().int().nonnegative().optional(),
});

const factsSchema = z.object({
  /** `repository`: under `true/`; `sealed`: in `sealed.age`; `none`: redacted views only. */
  trueCopy: z.enum(['repository', 'sealed', 'none']),
  /** Why there is no true copy. */
  trueCopyReason: z.string().optional(),
  hashes: z.enum(['sha256', 'withheld']),
  files: z.array(fileSchema),
  /** One of the files that no disk had: it was made out of what ran, and sets what these names say. */
  derived: z.object({ path: z.string(), names: z.array(z.string()) }).optional(),
});

/** What a configuration capture leaves in the manifest. */
export type ConfigFacts = z.infer<typeof factsSchema>;
/** What the manifest says of one configuration file. */
export type CapturedFile = ConfigFacts['files'][number];

/** @throws CorruptionError when the manifest's facts are not those of a configuration capture */
export function parseConfigFacts(facts: Readonly<Record<string, unknown>>, component: string): ConfigFacts {
  const parsed = factsSchema.safeParse(facts);
  if (parsed.success) return parsed.data;
  throw new CorruptionError(`The facts of ${component} are not those of a configuration capture`, {
    cause: parsed.error,
  });
}
