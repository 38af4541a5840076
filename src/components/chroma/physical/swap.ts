import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { removeTreeAt } from '../../../disk/remove-tree.ts';
import { hasErrno, RestoreRefusedError } from '../../../model/errors.ts';
import type { SwapRecord } from '../../../model/restore-plan.ts';
import type { Generation } from '../../../ports/component.ts';
import {
  directorySwaps,
  discardPreviousPaths,
  pathSwapSchema,
  swapPaths,
  undoPaths,
  type PathSwap,
} from '../../paths/path-swap.ts';
import { swapDetails } from '../../restore/swap-details.ts';
import { sqliteFileName, transientFileNames } from '../direct/tables.ts';
import { processesWithOpenFile } from './open-files.ts';

/** A swap record's details. */
const physicalSwapSchema = z.object({
  method: z.literal('physical'),
  live: z.string(),
  stage: z.object({
    stagedDir: z.string(),
    previousDir: z.string(),
    mode: z.enum(['rename', 'entries']),
  }),
  swaps: z.array(pathSwapSchema),
});
export type PhysicalSwap = z.infer<typeof physicalSwapSchema>;

/** Puts the staged directory in place. Can be run again after a crash. */
export async function swapPersistDirectory(swap: PhysicalSwap): Promise<void> {
  const users = await processesWithOpenFile(join(swap.live, sqliteFileName));
  if (users.length > 0) {
    throw new RestoreRefusedError(
      `Chroma still has ${join(swap.live, sqliteFileName)} open (process ${users.join(', ')})`,
      {
        hint: 'Stop it, or name its service in tars.yaml so that it is stopped; then run the restore again.',
      },
    );
  }
  await swapPaths(await currentSwaps(swap));
}

/**
 * In a mount point the entries are swapped one by one, and the live ones may have changed between staging and the
 * stop of the service: a new index, or SQLite's journal of a transaction that was cut short, which must not stay
 * beside the restored file. What appeared moves aside with the rest; what vanished needs no move.
 */
async function currentSwaps({ live, stage, swaps }: PhysicalSwap): Promise<readonly PathSwap[]> {
  if (stage.mode === 'rename') return swaps;
  const liveNames = new Set(await namesIn(live));
  const movedNames = new Set(await namesIn(stage.previousDir));
  const known = new Set(swaps.map((swap) => swap.live));
  const present = swaps.map((swap) => {
    const name = swap.live.slice(live.length + 1);
    return liveNames.has(name) || movedNames.has(name) ? swap : { ...swap, hadLive: false };
  });
  const appeared = (await directorySwaps(live, stage)).filter((swap) => !known.has(swap.live));
  return [...appeared, ...present];
}

/** Also what {@link currentSwaps} moved aside and the journal does not list. */
async function recordedSwaps({ live, stage, swaps }: PhysicalSwap): Promise<readonly PathSwap[]> {
  if (stage.mode === 'rename') return swaps;
  const known = new Set(swaps.map((swap) => swap.previous));
  const extra = (await namesIn(stage.previousDir))
    .map((name) => ({
      live: join(live, name),
      staged: null,
      previous: join(stage.previousDir, name),
      hadLive: true,
    }))
    .filter((swap) => !known.has(swap.previous));
  return [...extra, ...swaps];
}

/**
 * In a mount point, a journal the restored file left would be taken for the previous file's. Once that is back
 * (its place among the previous entries is empty) any journal is its own and stays.
 */
async function removeRestoredJournal({ live, stage }: PhysicalSwap): Promise<void> {
  if (stage.mode === 'rename' || !(await namesIn(stage.previousDir)).includes(sqliteFileName)) return;
  for (const name of transientFileNames) await rm(join(live, name), { force: true });
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** The swap a journal describes, to go back or to tidy up. @throws CorruptionError when it is another's record */
export function physicalGeneration(record: SwapRecord): Generation {
  const swap = swapDetails(record, 'chroma', physicalSwapSchema);
  return {
    undo: async ({ log }) => {
      await removeRestoredJournal(swap);
      await undoPaths(await recordedSwaps(swap), (message) => log.warn(message));
      await removeTreeAt(swap.stage.stagedDir);
    },
    discardPrevious: async () => {
      await discardPreviousPaths(await recordedSwaps(swap));
    },
  };
}
