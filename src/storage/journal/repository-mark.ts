import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { replaceDurablySync } from '../../disk/durable-file.ts';
import { lockFile } from '../../disk/kernel-lock.ts';
import { makeDirectoriesSync } from '../../disk/make-directories.ts';

/** Which repository lies at a place, as far as it can be told without its password. */
export interface KnownRepository {
  /** SHA-256 of its `config` file, which is random, and never changed; undefined when none was ever seen there. */
  readonly id?: string | undefined;
  /** When it was made. */
  readonly since?: Date | undefined;
}

/** Which repository the runs of a `tars.yaml` belong to. */
export interface RepositoryMark {
  /** The one that is there now; while it cannot be read, the one that was there last. */
  read(): KnownRepository;
  /** Notes what is there, for the time when its disk is not mounted. */
  remember(): void;
}

/** Others write a line: milliseconds. */
const waitMs = 5000;

const knownSchema = z.object({ id: z.string(), since: z.coerce.date() });
/** By path. */
const fileSchema = z.record(z.string(), knownSchema);

/** The mark of the repository at `repositoryPath`; what was there last stands in `directory`. */
export function createRepositoryMark(directory: string, repositoryPath: string): RepositoryMark {
  const file = join(directory, 'repositories.json');
  return {
    read: () => present(repositoryPath) ?? remembered(file)[repositoryPath] ?? {},
    remember() {
      const now = present(repositoryPath);
      if (now === undefined || now.id === remembered(file)[repositoryPath]?.id) return;
      makeDirectoriesSync(directory, 0o700);
      // Other stacks keep their repositories here too. The next run notes what this one could not.
      using lock = lockFile(join(directory, 'repositories.lock'), waitMs);
      if (lock === undefined) return;
      const before = remembered(file);
      replaceDurablySync(file, `${JSON.stringify({ ...before, [repositoryPath]: now }, null, 2)}\n`);
    },
  };
}

function present(repositoryPath: string): z.infer<typeof knownSchema> | undefined {
  const config = join(repositoryPath, 'config');
  try {
    const id = createHash('sha256').update(readFileSync(config)).digest('hex');
    return { id, since: statSync(config).mtime };
  } catch {
    return undefined;
  }
}

/** It only helps while the repository cannot be read, so a damaged mark counts as no mark. */
function remembered(file: string): z.infer<typeof fileSchema> {
  try {
    return fileSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return {};
  }
}
