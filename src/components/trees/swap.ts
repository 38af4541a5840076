import { chmod, chown, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CorruptionError, hasErrno } from '../../model/errors.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';
import type { Generation } from '../../ports/component.ts';
import {
  directorySwaps,
  discardPreviousPaths,
  pathSwapSchema,
  swapPaths,
  undoPaths,
  type PathSwap,
} from '../files/path-swap.ts';

const ownerSchema = z.object({ mode: z.number(), uid: z.number(), gid: z.number() });

/** The exchange of one tree, as it is journalled. */
export const treeSwapSchema = z.object({
  live: z.string(),
  stage: z.object({
    stagedDir: z.string(),
    previousDir: z.string(),
    mode: z.enum(['rename', 'entries']),
  }),
  swaps: z.array(pathSwapSchema),
  /** Of a directory that stays itself: its owner and mode before and after. */
  before: ownerSchema.nullable(),
  after: ownerSchema.extend({ mtimeMs: z.number() }),
});
export type TreeSwap = z.infer<typeof treeSwapSchema>;

/** Puts the staged tree in place. Can be run again after a crash. */
export async function swapTree(swap: TreeSwap): Promise<void> {
  await swapPaths(await currentSwaps(swap));
  if (swap.stage.mode === 'rename') return;
  const { live, after } = swap;
  await setOwner(live, after);
  await utimes(live, after.mtimeMs / 1000, after.mtimeMs / 1000);
}

export async function setOwner(path: string, { mode, uid, gid }: z.infer<typeof ownerSchema>): Promise<void> {
  // Giving files away takes root; a new owner takes set-user-ID bits away, so the mode comes after.
  if (process.getuid?.() === 0) await chown(path, uid, gid);
  await chmod(path, mode);
}

/** What appeared since the staging is set aside with the rest; what vanished needs no move. */
async function currentSwaps({ live, stage, swaps }: TreeSwap): Promise<readonly PathSwap[]> {
  if (stage.mode === 'rename') {
    const there = await stat(live).catch(() => undefined);
    return swaps.map((swap) => ({ ...swap, hadLive: there !== undefined }));
  }
  const present = new Set([...(await namesIn(live)), ...(await namesIn(stage.previousDir))]);
  const known = new Set(swaps.map((swap) => swap.live));
  const appeared = (await directorySwaps(live, stage)).filter((swap) => !known.has(swap.live));
  return [
    ...appeared,
    ...swaps.map((swap) =>
      present.has(swap.live.slice(live.length + 1)) ? swap : { ...swap, hadLive: false },
    ),
  ];
}

/** Also what {@link currentSwaps} set aside and the journal does not list. */
async function recordedSwaps({ live, stage, swaps }: TreeSwap): Promise<readonly PathSwap[]> {
  if (stage.mode === 'rename') return swaps;
  const known = new Set(swaps.map((swap) => swap.previous));
  const extra = (await namesIn(stage.previousDir))
    .map((name) => ({
      ...{ live: join(live, name), staged: null, previous: join(stage.previousDir, name) },
      hadLive: true,
    }))
    .filter((swap) => !known.has(swap.previous));
  return [...extra, ...swaps];
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
export function treesGeneration(record: SwapRecord): Generation {
  const parsed = z.object({ trees: z.array(treeSwapSchema) }).safeParse(record.details);
  if (!parsed.success) {
    throw new CorruptionError(`The journal of the restore of ${record.component} cannot be read`, {
      cause: parsed.error,
    });
  }
  const { trees } = parsed.data;
  return {
    async undo({ log }) {
      for (const tree of [...trees].reverse()) {
        await undoPaths(await recordedSwaps(tree), (message) => log.warn(message));
        await rm(tree.stage.stagedDir, { recursive: true, force: true });
        if (tree.before !== null && tree.stage.mode === 'entries') await setOwner(tree.live, tree.before);
      }
    },
    async discardPrevious() {
      for (const tree of trees) await discardPreviousPaths(await recordedSwaps(tree));
    },
  };
}
