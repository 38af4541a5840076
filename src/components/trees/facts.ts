import { isAbsolute, normalize } from 'node:path/posix';
import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';

const entrySchema = z.object({
  /** Relative to the tree; empty for its own directory. */
  path: z.string(),
  type: z.enum(['file', 'directory', 'symlink']),
  mode: z.number().int().nonnegative().max(0o7777),
  uid: z.number().int().nonnegative(),
  gid: z.number().int().nonnegative(),
  /** Nanoseconds since the Unix epoch, decimal. */
  mtimeNs: z.string().regex(/^-?\d+$/),
  /** Where a symbolic link leads. */
  target: z.string().optional(),
});

const treeSchema = z.object({
  /** Absolute, as configured. */
  path: z.string().refine((path) => isAbsolute(path) && normalize(path) === path, 'is not an absolute path'),
  entries: z.array(entrySchema),
  /** Sockets, devices and pipes, which hold nothing to keep. */
  skipped: z.array(z.string()),
  /** Files that changed while they were read, each time. */
  changing: z.array(z.string()),
});

const factsSchema = z.object({ trees: z.array(treeSchema) });

/** What a capture of directories leaves in the manifest. A file's hash is that of its artifact. */
export type TreesFacts = z.infer<typeof factsSchema>;
export type CapturedTree = z.infer<typeof treeSchema>;
export type CapturedEntry = z.infer<typeof entrySchema>;

/** @throws CorruptionError when the manifest's facts are not those of such a capture */
export function parseTreesFacts(facts: Readonly<Record<string, unknown>>, component: string): TreesFacts {
  const parsed = factsSchema.safeParse(facts);
  if (parsed.success) return parsed.data;
  throw new CorruptionError(`The facts of ${component} are not those of captured directories`, {
    cause: parsed.error,
  });
}

/** Where a tree lies in the component's folder of the snapshot: its path without the leading slash. */
export const treeFolder = (component: string, path: string): string =>
  `${component}${path === '/' ? '' : path}`;
