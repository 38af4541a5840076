import { chmod, chown, mkdir, open, readdir, readFile, rm, rmdir, stat, utimes } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { syncDirectory } from '../../disk/sync.ts';
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
  /** Names in it that are not the tree's own, and stay; missing in what 1.0.12 wrote. */
  keep: z.array(z.string()).default([]),
  stage: z.object({
    stagedDir: z.string(),
    previousDir: z.string(),
    mode: z.enum(['rename', 'entries']),
  }),
  swaps: z.array(pathSwapSchema),
  /** Of a directory that stays itself: its owner and mode before and after. */
  before: ownerSchema.nullable(),
  after: ownerSchema.extend({ mtimeSeconds: z.number() }),
});
export type TreeSwap = z.infer<typeof treeSwapSchema>;

/** Names of entries that were journalled and gone before they could be set aside, in the previous directory. */
const goneFileName = '.tars-gone';

/** Puts the staged tree in place. Can be run again after a crash. */
export async function swapTree(swap: TreeSwap): Promise<void> {
  const { live, stage, after } = swap;
  if (stage.mode === 'rename') {
    const hadLive = (await stat(live).catch(() => undefined)) !== undefined;
    await swapPaths(swap.swaps.map((path) => ({ ...path, hadLive })));
    return;
  }
  // It goes last, when everything in it is in place.
  if ((await stat(stage.stagedDir).catch(() => undefined)) !== undefined) {
    await noteGone(swap);
    await swapPaths(await recordedSwaps(swap, await directorySwaps(live, stage, swap.keep)));
    await rmdir(stage.stagedDir);
  }
  await setOwner(live, after);
  await utimes(live, after.mtimeSeconds, after.mtimeSeconds);
}

/** So that going back does not take what was restored in their place for what was there. */
async function noteGone({ live, stage, swaps }: TreeSwap): Promise<void> {
  const present = new Set([...(await namesIn(live)), ...(await namesIn(stage.previousDir))]);
  const gone = swaps.filter((swap) => swap.hadLive && !present.has(nameOf(swap))).map(nameOf);
  if (gone.length === 0) return;
  await mkdir(stage.previousDir, { recursive: true });
  const names = [...new Set([...gone, ...(await goneNames(stage.previousDir))])];
  const handle = await open(join(stage.previousDir, goneFileName), 'w', 0o600);
  try {
    await handle.writeFile(JSON.stringify(names));
    await handle.sync();
  } finally {
    await handle.close();
  }
  await syncDirectory(stage.previousDir);
}

async function goneNames(previousDir: string): Promise<readonly string[]> {
  const text = await readFile(join(previousDir, goneFileName), 'utf8').catch(() => undefined);
  if (text === undefined) return [];
  try {
    return z.array(z.string()).parse(JSON.parse(text));
  } catch {
    // Cut off while it was written, before anything was moved.
    return [];
  }
}

const nameOf = ({ live }: PathSwap): string => basename(live);

/** Gives the path its mode, and its owner where this user may. */
export async function setOwner(path: string, { mode, uid, gid }: z.infer<typeof ownerSchema>): Promise<void> {
  // Giving files away takes root; a new owner takes set-user-ID bits away, so the mode comes after.
  if (process.getuid?.() === 0) await chown(path, uid, gid);
  await chmod(path, mode);
}

/**
 * What was journalled, as it turned out: with what appeared since and was set aside too.
 * @param more what is about to be set aside
 */
async function recordedSwaps(
  { live, stage, swaps }: TreeSwap,
  more: readonly PathSwap[] = [],
): Promise<readonly PathSwap[]> {
  if (stage.mode === 'rename') return swaps;
  const gone = new Set(await goneNames(stage.previousDir));
  const known = new Set(swaps.map((swap) => swap.previous));
  const aside = (await namesIn(stage.previousDir)).map((name) => ({
    ...{ live: join(live, name), staged: null, previous: join(stage.previousDir, name) },
    hadLive: true,
  }));
  const appeared = new Map(
    [...more, ...aside].filter((swap) => !known.has(swap.previous)).map((swap) => [swap.previous, swap]),
  );
  return [
    ...appeared.values(),
    ...swaps.map((swap) => (gone.has(nameOf(swap)) ? { ...swap, hadLive: false } : swap)),
  ];
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return (await readdir(directory)).filter((name) => name !== goneFileName);
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
        const swaps = await recordedSwaps(tree);
        await removeGone(tree, () => undoPaths(swaps, (message) => log.warn(message)));
        await rm(tree.stage.stagedDir, { recursive: true, force: true });
        if (tree.before !== null && tree.stage.mode === 'entries') await setOwner(tree.live, tree.before);
      }
    },
    async discardPrevious() {
      for (const tree of trees) {
        const swaps = await recordedSwaps(tree);
        await removeGone(tree, () => discardPreviousPaths(swaps));
      }
    },
  };
}

/** The note goes last, with its directory: it is needed until everything is done. */
async function removeGone({ stage }: TreeSwap, work: () => Promise<void>): Promise<void> {
  await work();
  if (stage.mode === 'rename') return;
  await rm(join(stage.previousDir, goneFileName), { force: true });
  await rmdir(stage.previousDir).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOENT') && !hasErrno(error, 'ENOTEMPTY')) throw error;
  });
}
