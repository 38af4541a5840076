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

const databaseSchema = z.object({
  /** Relative to the tree. */
  path: z.string(),
  sizeBytes: z.number().int().nonnegative(),
  /** What the database says of its journal: `wal` or `rollback`. */
  journal: z.string(),
  /** What SQLite said of the captured files: `integrity_check` or `quick_check` found nothing, or the check failed, or why there was none. */
  check: z.enum(['integrity', 'quick', 'failed', 'none']),
  /** What is wrong, or why there was no check. */
  problem: z.string().optional(),
  /** Some of them, with their rows; without, where only the program of the database can read a table. */
  tables: z.array(z.object({ name: z.string(), rows: z.number().int().nonnegative().optional() })),
  /** All of them. */
  tableCount: z.number().int().nonnegative(),
});

const treeSchema = z.object({
  /** Absolute, as configured. */
  path: z.string().refine((path) => isAbsolute(path) && normalize(path) === path, 'is not an absolute path'),
  /** Of version 1.0 of tars; since then the snapshot's own tree is all there is, and this stays empty for old readers. */
  entries: z.array(entrySchema),
  /**
   * Files with secrets that an archive in the clear leaves out; of version 1.0, sockets, devices and pipes. A restore keeps
   * what is there.
   */
  skipped: z.array(z.string()),
  /** Files that changed while they were read, each time; some of them. */
  changing: z.array(z.string()),
  /** How many names of files, and what the files take on a disk. */
  files: z.number().int().nonnegative().optional(),
  sizeBytes: z.number().int().nonnegative().optional(),
  /** The patterns that left something out. */
  exclude: z.array(z.string()).optional(),
  /** SQLite databases: some of them, in the order of their paths. */
  databases: z.array(databaseSchema).optional(),
  /** All of them. */
  databaseCount: z.number().int().nonnegative().optional(),
});

const factsSchema = z.object({ trees: z.array(treeSchema) });

/** What a capture of directories leaves in the manifest. A file's hash is that of its artifact. */
export type TreesFacts = z.infer<typeof factsSchema>;
export type CapturedTree = z.infer<typeof treeSchema>;
/** A SQLite database in a captured directory. */
export type CapturedDatabase = z.infer<typeof databaseSchema>;

/** Undefined when they are not those of such a capture. */
export const readTreesFacts = (facts: Readonly<Record<string, unknown>>): TreesFacts | undefined =>
  factsSchema.safeParse(facts).data;

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
