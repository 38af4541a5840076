import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CorruptionError, RestoreRefusedError, TarsError, toTarsError } from '../../model/errors.ts';
import { isThere, whenMissing } from '../../disk/is-there.ts';
import { makeDirectories } from '../../disk/make-directories.ts';
import type { PendingRestore, RestoreJournal, RestoreJournalEntry } from '../../ports/journal.ts';
import { replaceDurably } from '../../disk/durable-file.ts';
import { lockFile } from '../../disk/kernel-lock.ts';
import { hasEnded, processStartOf } from '../../disk/process-identity.ts';
import { wayBackText } from './way-back.ts';

const entrySchema = z.object({
  restoreId: z.string(),
  stack: z.string(),
  origin: z.object({ host: z.string(), repository: z.string().optional(), settings: z.string() }).optional(),
  snapshot: z.string(),
  startedAt: z.string(),
  components: z.array(z.string()).default([]),
  phase: z.enum(['staging', 'swapping', 'swapped', 'done']),
  stopped: z.array(z.string()),
  offline: z.array(z.string()),
  records: z.array(
    z.object({
      component: z.string(),
      kind: z.string(),
      wayBack: z.array(z.string()),
      details: z.record(z.string(), z.unknown()),
    }),
  ),
  mounts: z
    .array(
      z.object({
        component: z.string(),
        service: z.string(),
        type: z.enum(['volume', 'bind', 'other']),
        source: z.string(),
        path: z.string(),
        destination: z.string(),
      }),
    )
    .optional(),
  byHand: z.object({ stop: z.array(z.string()), start: z.array(z.string()) }).optional(),
  creating: z
    .object({
      containers: z.array(z.string()),
      volumes: z.array(z.string()),
      networks: z.array(z.string()),
    })
    .optional(),
  created: z
    .object({
      containers: z.array(z.object({ id: z.string(), service: z.string(), empty: z.boolean() })),
      volumes: z.array(z.string()),
      networks: z.array(z.string()),
      directories: z.array(z.string()).optional(),
    })
    .optional(),
});
const fileSchema = z.object({
  entry: entrySchema,
  pid: z.int(),
  /** Field 22 of /proc/<pid>/stat: a recycled pid has another one. Empty: the process has let go of the entry. */
  processStart: z.string(),
});

/** Restores recorded as one JSON file each (0600) in `directory`, replaced atomically; beside it the way back. */
export function createFileJournal(directory: string): RestoreJournal {
  const fileOf = (restoreId: string): string => join(directory, `restore-${restoreId}.json`);
  const wayBackFile = (restoreId: string): string => join(directory, `way-back-${restoreId}.txt`);
  /** Those this process has written since it claimed the journal. */
  const written = new Set<string>();

  return {
    async claim(): Promise<AsyncDisposable> {
      const path = join(directory, 'claim');
      let claim: Disposable | undefined;
      try {
        await makeDirectories(directory, 0o700);
        claim = lockFile(path);
      } catch (cause) {
        const { code, message } = toTarsError(cause, `Cannot record the restore in ${path}`);
        const hint = 'Make it writable, or name another directory as state_dir in tars.yaml.';
        throw new TarsError(code, message, { hint, cause });
      }
      if (claim !== undefined) {
        // What cannot be removed is only untidy.
        await removeCutOffWrites(directory).catch(() => undefined);
        return letGoOnDispose(claim, async () => {
          for (const restoreId of written) await letGo(fileOf(restoreId));
          written.clear();
        });
      }
      throw new RestoreRefusedError('Another process is restoring, or recovering a restore', {
        hint: 'Wait for it to end, then run this again.',
      });
    },

    async write(entry: RestoreJournalEntry): Promise<void> {
      const path = fileOf(entry.restoreId);
      const content = { entry, pid: process.pid, processStart: processStartOf(process.pid) };
      try {
        await makeDirectories(directory, 0o700);
        const text = wayBackText(entry);
        // Nobody may read of a way back that does not exist yet, or no longer.
        if (text === '') await rm(wayBackFile(entry.restoreId), { force: true });
        await replaceDurably(path, textOf(content));
        written.add(entry.restoreId);
        if (text !== '') await replaceDurably(wayBackFile(entry.restoreId), text);
      } catch (error) {
        throw toTarsError(error, `Cannot record the restore in ${path}`);
      }
    },

    wayBackFile,

    async pending(): Promise<readonly PendingRestore[]> {
      return (await readAll(directory))
        .filter(({ entry }) => entry.phase !== 'done')
        .map(({ entry, pid, processStart }) => ({
          entry,
          alive: processStart !== '' && !hasEnded(pid, processStart),
        }))
        .sort((a, b) => (a.entry.startedAt < b.entry.startedAt ? -1 : 1));
    },

    async mayHaveLeft(): Promise<boolean> {
      const all = await readAll(directory);
      return all.some(({ entry }) => entry.phase !== 'done' || entry.records.length > 0);
    },

    async remove(restoreId: string): Promise<void> {
      await rm(wayBackFile(restoreId), { force: true });
      await rm(fileOf(restoreId), { force: true });
    },
  };
}

const textOf = (content: object): string => `${JSON.stringify(content, null, 2)}\n`;

/** An entry that cannot be let go of is only called one of a running process until this one ends. */
const letGoOnDispose = (claim: Disposable, letGoOfAll: () => Promise<void>): AsyncDisposable => ({
  async [Symbol.asyncDispose]() {
    try {
      await letGoOfAll().catch(() => undefined);
    } finally {
      claim[Symbol.dispose]();
    }
  },
});

/** The writer of the entry at `path` no longer needs it, although its process still runs. */
async function letGo(path: string): Promise<void> {
  if (!(await isThere(path))) return;
  const { entry, pid } = await readEntry(path);
  await replaceDurably(path, textOf({ entry, pid, processStart: '' }));
}

/** Entries are written by whoever holds the claim, so that nobody writes these any more. */
async function removeCutOffWrites(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => /^(restore|way-back)-.*\.tmp$/.test(name));
  for (const name of names) await rm(join(directory, name), { force: true });
}

async function readAll(directory: string): Promise<readonly z.infer<typeof fileSchema>[]> {
  const names = await readdir(directory).catch(whenMissing<string[]>([], `Cannot read ${directory}`));
  const files = names.filter((file) => /^restore-[a-z0-9]+\.json$/.test(file));
  return Promise.all(files.map((name) => readEntry(join(directory, name))));
}

async function readEntry(path: string): Promise<z.infer<typeof fileSchema>> {
  try {
    return fileSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    throw new CorruptionError(`The record of a restore, ${path}, cannot be read`, {
      hint: 'Open it: it lists the steps that put the previous data back by hand. Then move it away to continue.',
      cause,
    });
  }
}
