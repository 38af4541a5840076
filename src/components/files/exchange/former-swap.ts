import { chmod, chown, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { whenMissing } from '../../../disk/is-there.ts';
import { hasErrno } from '../../../model/errors.ts';
import type { SwapRecord } from '../../../model/restore-plan.ts';
import type { Generation } from '../../../ports/component.ts';
import { discardPreviousPaths, pathSwapSchema, undoPaths, type PathSwap } from '../../paths/path-swap.ts';
import { swapDetails } from '../../restore/swap-details.ts';

/*
 * Restores that version 1.0 of tars left unfinished, or whose previous data is still there. Nothing writes such records
 * any more.
 */

const ownerSchema = z.object({ mode: z.number(), uid: z.number(), gid: z.number() });

/** The exchange of one tree, as version 1.0 of tars journalled it. */
const treeSwapSchema = z.object({
  live: z.string(),
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
type TreeSwap = z.infer<typeof treeSwapSchema>;

/** Names of entries that were journalled and gone before they could be set aside, in the previous directory. */
const goneFileName = '.tars-gone';

async function goneNames(previousDir: string): Promise<readonly string[]> {
  const text = await readFile(join(previousDir, goneFileName), 'utf8').catch(
    whenMissing(undefined, `Cannot read the list of missing entries in ${previousDir}`),
  );
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
async function setOwner(path: string, { mode, uid, gid }: z.infer<typeof ownerSchema>): Promise<void> {
  // Giving files away takes root; a new owner takes set-user-ID bits away, so the mode comes after.
  if (process.getuid?.() === 0) await chown(path, uid, gid);
  await chmod(path, mode);
}

/** What was journalled, as it turned out: with what appeared since and was set aside too. */
async function recordedSwaps({ live, stage, swaps }: TreeSwap): Promise<readonly PathSwap[]> {
  if (stage.mode === 'rename') return swaps;
  const gone = new Set(await goneNames(stage.previousDir));
  const known = new Set(swaps.map((swap) => swap.previous));
  const aside = (await namesIn(stage.previousDir)).map((name) => ({
    ...{ live: join(live, name), staged: null, previous: join(stage.previousDir, name) },
    hadLive: true,
  }));
  const appeared = new Map(
    aside.filter((swap) => !known.has(swap.previous)).map((swap) => [swap.previous, swap]),
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
export function formerGeneration(record: SwapRecord): Generation {
  const { trees } = swapDetails(record, 'files', z.object({ trees: z.array(treeSwapSchema) }));
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
