import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import { contentSchema } from './content.ts';

/** How a server keeps its data on disk (redis.conf). */
export const persistenceSchema = z.object({
  appendOnly: z.boolean().optional(),
  dbFilename: z.string(),
  appendDirName: z.string(),
  appendFilename: z.string(),
});
export type Persistence = z.infer<typeof persistenceSchema>;

/** The defaults of redis.conf since Redis 7.0. */
export const defaultPersistence: Persistence = {
  dbFilename: 'dump.rdb',
  appendDirName: 'appendonlydir',
  appendFilename: 'appendonly.aof',
};

export const ownerSchema = z.object({ uid: z.number(), gid: z.number(), mode: z.number() });
export type Owner = z.infer<typeof ownerSchema>;

/** What a capture records in the manifest. */
export const factsSchema = z.object({
  product: z.enum(['redis', 'valkey']),
  role: z.string(),
  rdb: z.object({
    magic: z.enum(['REDIS', 'VALKEY']),
    version: z.number().int(),
    checksum: z.enum(['verified', 'absent']),
  }),
  persistence: persistenceSchema,
  /** Of the data directory, where it could be seen. */
  directory: ownerSchema.optional(),
  /** Its users, beside the data: of a server that keeps them in a file of their own. */
  users: z.object({ file: z.string(), artifact: z.string() }).optional(),
  /** Absent where it could not be read: {@link unverified} says why. */
  content: contentSchema.optional(),
  unverified: z.string().optional(),
});
export type Facts = z.infer<typeof factsSchema>;

/** The artifact's path in the snapshot. */
export const artifactPath = (name: string): string => `${name}/dump.rdb`;

/** What a server keeps beside its data, as it had it. No restore puts it in place. */
export const usersPath = (name: string): string => `${name}/server/users.acl`;

/** @throws CorruptionError when the manifest does not hold what a capture of Redis records */
export function factsOf(from: ComponentManifest): Facts {
  const parsed = factsSchema.safeParse(from.facts);
  if (!parsed.success) {
    throw new CorruptionError(
      `The facts of ${from.name} in the manifest do not fit: ${z.prettifyError(parsed.error)}`,
    );
  }
  return parsed.data;
}
