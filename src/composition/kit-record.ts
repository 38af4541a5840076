import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { replaceDurably } from '../disk/durable-file.ts';
import { whenMissing } from '../disk/is-there.ts';
import { toTarsError } from '../model/errors.ts';
import { makeDirectories } from '../disk/make-directories.ts';

const recordSchema = z.object({
  /** RFC 3339 UTC. */
  exportedAt: z.string(),
  /** Which of the repository's keys was printed: once it is removed, the page opens nothing. */
  keyId: z.string(),
  /** The file it was written to; it holds the key. */
  output: z.string().optional(),
});

/** When a recovery kit was exported last. */
type KitRecord = z.infer<typeof recordSchema>;

/** By the repository's id: several stacks may share a state directory. */
const fileSchema = z.record(z.string(), recordSchema);

const pathIn = (stateDir: string): string => join(stateDir, 'recovery-kits.json');

/** The last export for a repository; undefined when there was none, or what is recorded cannot be understood. */
export async function lastKitExport(stateDir: string, repositoryId: string): Promise<KitRecord | undefined> {
  return (await readRecords(stateDir))[repositoryId];
}

/** The files that recovery kits were last written to. */
export async function exportedKits(stateDir: string): Promise<readonly string[]> {
  const records = await readRecords(stateDir).catch(() => ({}));
  return Object.values(records).flatMap(({ output }) => output ?? []);
}

async function readRecords(stateDir: string): Promise<Readonly<Record<string, KitRecord>>> {
  const path = pathIn(stateDir);
  const text = await readFile(path, 'utf8').catch(whenMissing('{}', `Cannot read ${path}`));
  try {
    return fileSchema.parse(JSON.parse(text));
  } catch {
    return {};
  }
}

/** Remembers an export. The file is replaced as a whole. */
export async function recordKitExport(
  stateDir: string,
  repositoryId: string,
  record: KitRecord,
): Promise<void> {
  const path = pathIn(stateDir);
  const records = { ...(await readRecords(stateDir)), [repositoryId]: record };
  try {
    await makeDirectories(stateDir, 0o700);
    await replaceDurably(path, `${JSON.stringify(records, null, 2)}\n`);
  } catch (error) {
    throw toTarsError(error, `Cannot record the export in ${path}`);
  }
}
