import { constants } from 'node:fs';
import { access, mkdir, readdir, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { realPathIfThere } from '../../disk/real-path.ts';
import { isThere } from '../../disk/is-there.ts';
import { mountPoints, requireMounted } from '../../disk/mounts.ts';
import { openPath } from '../../disk/open-path.ts';
import { removeTreeAt } from '../../disk/remove-tree.ts';
import { syncDirectory } from '../../disk/sync.ts';
import {
  hasErrno,
  isDenied,
  PreviousDataGoneError,
  RestoreRefusedError,
  systemErrorHint,
  toTarsError,
} from '../../model/errors.ts';
import { shellWord } from '../../model/shell-word.ts';
import { besidePath, besideStem } from './beside-name.ts';

/**
 * One path whose content is exchanged by renames on one file system: live moves to `previous`, then `staged`
 * (when there is one) moves to live. `hadLive` is what was true before the swap; with it the state a crash left
 * can be told from the paths that exist, so that undoing needs no further bookkeeping.
 */
export const pathSwapSchema = z.object({
  live: z.string(),
  staged: z.string().nullable(),
  previous: z.string(),
  hadLive: z.boolean(),
});
export type PathSwap = z.infer<typeof pathSwapSchema>;

/** Where to stage a directory's replacement and how it will be put in place. */
interface DirectoryStage {
  /** Created, empty, mode 0700; on the live directory's file system. */
  readonly stagedDir: string;
  readonly previousDir: string;
  /** `entries` when the live directory itself must stay, as a mount point must: its entries are renamed, one by one. */
  readonly mode: 'rename' | 'entries';
}

/** True for the root of a file system, and for a bind mount, which has the same device as its surroundings. */
async function isMountPoint(path: string): Promise<boolean> {
  if (!(await isThere(path))) return false;
  const [own, parent] = await Promise.all([stat(path), stat(dirname(path))]);
  if (own.dev !== parent.dev) return true;
  return (await mountPoints()).includes(path);
}

/**
 * Decides how the directory at `path` will be replaced, and creates the empty directory to stage into.
 * @param keepDirectory keep the directory itself whatever it is: it is mounted elsewhere, such as in a container
 * @throws RestoreRefusedError when the place beside it cannot be written
 */
export async function stageBeside(
  path: string,
  restoreId: string,
  keepDirectory = false,
): Promise<DirectoryStage> {
  const live = await realPathIfThere(path);
  const mode = keepDirectory || (await isMountPoint(live)) ? 'entries' : 'rename';
  const parent = mode === 'entries' ? live : dirname(live);
  const prefix = mode === 'entries' ? '.tars' : `${besideStem(basename(live))}.tars`;
  const stagedDir = join(parent, `${prefix}-new-${restoreId}`);
  try {
    await mkdir(parent, { recursive: true });
    await access(parent, constants.W_OK | constants.X_OK);
    await mkdir(stagedDir, { mode: 0o700 });
  } catch (cause) {
    throw new RestoreRefusedError(`Cannot stage beside ${live}: ${toTarsError(cause, 'no access').message}`, {
      hint: isDenied(cause)
        ? `Make ${parent} writable for the user who runs tars.`
        : (systemErrorHint(cause) ?? 'Check what is in the way there.'),
      cause,
    });
  }
  return { stagedDir, previousDir: join(parent, `${prefix}-prev-${restoreId}`), mode };
}

/** Removes what {@link stageBeside} created for that restore and nobody swapped in. */
export async function removeStagedBeside(path: string, restoreId: string): Promise<void> {
  const live = await realPathIfThere(path);
  const candidates = [besidePath(live, 'new', restoreId), join(live, `.tars-new-${restoreId}`)];
  for (const staged of candidates) await removeTreeAt(staged);
}

/**
 * The swaps that replace the whole directory `live` with what now lies staged. For a mount point that is a swap
 * per entry; entries of other restores (`.tars-…`) and `lost+found` stay where they are.
 * @param keep further names that stay
 */
export async function directorySwaps(
  live: string,
  stage: DirectoryStage,
  keep: readonly string[] = [],
): Promise<PathSwap[]> {
  if (stage.mode === 'rename') {
    const at = await realPathIfThere(live);
    return [{ live: at, staged: stage.stagedDir, previous: stage.previousDir, hadLive: await isThere(at) }];
  }
  // What another component's restore puts beside a name that stays is that component's too.
  const isKept = (name: string): boolean =>
    keep.some((kept) => name === kept || name.startsWith(`${besideStem(kept)}.tars-`));
  const own = (name: string): boolean => !name.startsWith('.tars-') && name !== 'lost+found' && !isKept(name);
  const liveNames = new Set((await readdir(live)).filter(own));
  const stagedNames = new Set(await readdir(stage.stagedDir));
  return [...new Set([...liveNames, ...stagedNames])].sort().map((name) => ({
    live: join(live, name),
    staged: stagedNames.has(name) ? join(stage.stagedDir, name) : null,
    previous: join(stage.previousDir, name),
    hadLive: liveNames.has(name),
  }));
}

/** Renames from directory to directory, each opened first: no link of another user on the way is followed. */
async function move(from: string, to: string): Promise<void> {
  const missing: string[] = [];
  for (let path = dirname(to); !(await isThere(path)); path = dirname(path)) missing.push(path);
  using source = await openPath(dirname(from));
  using target = await openPath(dirname(to), { create: 0o700 });
  await source.directory.rename(basename(from), target.directory, basename(to));
  await target.directory.sync();
  await source.directory.sync();
  for (const created of missing) await syncDirectory(dirname(created));
}

/** Carries the swaps out in order. Done ones are recognised, so it can be run again after a crash. */
export async function swapPaths(swaps: readonly PathSwap[]): Promise<void> {
  for (const { live, staged, previous, hadLive } of swaps) {
    if (staged === null) {
      if (hadLive && !(await isThere(previous))) await move(live, previous);
      continue;
    }
    if (!(await isThere(staged))) continue;
    if (hadLive && !(await isThere(previous))) await move(live, previous);
    if (await isThere(live)) {
      throw new RestoreRefusedError(`${live} was created after its replacement was staged`, {
        hint: 'Stop everything that writes there, then run the restore again.',
      });
    }
    await move(staged, live);
  }
}

/**
 * Puts everything back as it was before {@link swapPaths}, from whatever state it was left in. Idempotent.
 * @throws PreviousDataGoneError when all that was there before is neither there nor kept
 * @param warn told what is kept under another name, because it is neither the previous nor the restored data
 */
export async function undoPaths(
  swaps: readonly PathSwap[],
  warn: (message: string) => void = () => undefined,
): Promise<void> {
  await requirePrevious(swaps);
  for (const { live, staged, previous, hadLive } of [...swaps].reverse()) {
    const previousExists = await isThere(previous);
    if (
      staged !== null &&
      !(await isThere(staged)) &&
      (previousExists || !hadLive) &&
      (await isThere(live))
    ) {
      await move(live, staged);
    }
    if (previousExists) {
      if (await isThere(live)) {
        const stray = `${previous}.stray`;
        await move(live, stray);
        warn(`${live} was created again during the restore; the new one is kept as ${stray}`);
      }
      await move(previous, live);
    }
    if (staged !== null) await removeTreeAt(staged);
  }
  await removeEmptyParents(swaps);
}

/** A file that a server removed when it stopped is not missed, as long as others of its data are there. */
async function requirePrevious(swaps: readonly PathSwap[]): Promise<void> {
  const had = swaps.filter(({ hadLive }) => hadLive);
  for (const { live, previous } of had) if ((await isThere(live)) || (await isThere(previous))) return;
  const [first] = had;
  if (first === undefined) return;
  await requireMounted(first.live);
  throw new PreviousDataGoneError(
    `Both ${first.live} and its previous data in ${first.previous} are missing`,
  );
}

/** Deletes the previous data of finished swaps for good. Idempotent. */
export async function discardPreviousPaths(swaps: readonly PathSwap[]): Promise<void> {
  for (const { previous } of swaps) await removeTreeAt(previous);
  await removeEmptyParents(swaps);
}

/** Shell lines with which a person undoes the swaps, the service being stopped. */
export function wayBackLines(swaps: readonly PathSwap[]): string[] {
  const folders = new Set(swaps.filter(({ hadLive }) => !hadLive).map(({ previous }) => dirname(previous)));
  const moves = swaps.flatMap(({ live, staged, previous, hadLive }) => [
    ...(staged === null ? [] : [`mv ${shellWord(live)} ${shellWord(`${previous}.restored`)}`]),
    ...(hadLive ? [`mv ${shellWord(previous)} ${shellWord(live)}`] : []),
  ]);
  return [...[...folders].map((folder) => `mkdir -p ${shellWord(folder)}`), ...moves];
}

/** Per-entry swaps leave their `.tars-new-…`/`.tars-prev-…` folders empty behind. */
async function removeEmptyParents(swaps: readonly PathSwap[]): Promise<void> {
  const candidates = new Set(
    swaps.flatMap(({ staged, previous }) => [previous, staged ?? previous]).map(dirname),
  );
  for (const folder of candidates) {
    if (!/\.tars-(new|prev)-[a-z0-9]+$/.test(folder)) continue;
    await rmdir(folder).catch((error: unknown) => {
      if (!hasErrno(error, 'ENOENT') && !hasErrno(error, 'ENOTEMPTY')) throw error;
    });
  }
}
