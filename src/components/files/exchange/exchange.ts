import { randomBytes } from 'node:crypto';
import { basename, dirname } from 'node:path';
import { z } from 'zod';
import { isMissing } from '../../../disk/is-there.ts';
import { mountPoints } from '../../../disk/mounts.ts';
import { OpenDirectory } from '../../../disk/open-directory.ts';
import { openPath } from '../../../disk/open-path.ts';
import { setTimes } from '../../../disk/posix/index.ts';
import { removeTree } from '../../../disk/remove-tree.ts';
import { RestoreRefusedError, TarsError, toTarsError } from '../../../model/errors.ts';
import { besideStem } from '../../paths/beside-name.ts';
import { closeToOthers } from '../tree/attributes.ts';

/** Where the exchange of one tree takes place, as it is journalled. Paths are real ones; names are as in model/byte-text.ts. */
export const exchangeSchema = z.object({
  live: z.string(),
  /** The directory in which the next two lie: that above the tree, or the tree's own where that must stay itself. */
  holder: z.string(),
  /** Names of directories that nobody but this user and root may enter. */
  staged: z.string(),
  previous: z.string(),
  /** Device and inode of the staged one, so that nothing else is taken for it. */
  stagedFile: z.string(),
  /** The snapshot lacks files that it does not name: what it replaces may be the only copy. */
  keepsPrevious: z.boolean(),
  /**
   * With it the notes of the exchange are signed: a service that starts may make the previous directory its own
   * (`chown -R` at the start of a container), and what it writes there must not be done. Until 1.0.12 there was none.
   */
  noteKey: z.string().optional(),
});
export type TreeExchange = z.infer<typeof exchangeSchema>;

/** In both directories: the root of the tree, as far as it exists. */
export const contentName = 'tree';

/**
 * What is done in the holder changes its time, which may be that of the tree itself.
 * @param isTree whether it is
 */
export async function keepingTime<T>(
  holder: OpenDirectory,
  isTree: boolean,
  work: () => Promise<T>,
): Promise<T> {
  const { mtimeNs } = holder.stat();
  try {
    return await work();
  } finally {
    if (isTree) setTimes(holder.at('.'), mtimeNs, mtimeNs);
  }
}

/** An exchange whose staged directory is open, to be filled. */
export interface BegunExchange extends Disposable {
  readonly exchange: TreeExchange;
  /** Empty; what is written here nobody else sees. */
  readonly content: OpenDirectory;
}

/**
 * Creates the private directory in which a tree's replacement is staged, on the tree's own file system.
 * @param keepDirectory the tree's directory is mounted elsewhere, such as in a container, and must stay itself
 * @throws RestoreRefusedError when there is no place for it
 */
export async function beginExchange(
  path: string,
  restoreId: string,
  options: { readonly keepDirectory: boolean; readonly keepsPrevious: boolean },
): Promise<BegunExchange> {
  const { live, holder: holderPath } = await placeOf(path, options.keepDirectory);
  try {
    using holder = await openPath(holderPath, { create: 0o755 });
    const { staged, previous } = namesOf(live, holder.path, restoreId);
    using container = await keepingTime(holder.directory, holder.path === live, () =>
      holder.directory.createDirectory(staged),
    );
    try {
      closeToOthers(container);
      const { dev, ino } = container.stat();
      const content = await container.createDirectory(contentName);
      const exchange = {
        ...{ live, holder: holder.path, staged, previous },
        ...{ stagedFile: `${dev}:${ino}`, keepsPrevious: options.keepsPrevious },
        noteKey: randomBytes(32).toString('base64'),
      };
      return { exchange, content, [Symbol.dispose]: () => content.close() };
    } catch (error) {
      await removeTree(holder.directory, staged);
      throw error;
    }
  } catch (cause) {
    throw new RestoreRefusedError(`Cannot stage beside ${live}: ${toTarsError(cause, 'no access').message}`, {
      hint: `Make ${holderPath} writable for the user who runs tars.`,
      cause,
    });
  }
}

/** Removes what {@link beginExchange} created for that restore. Harmless when there is nothing. */
export async function removeBegun(path: string, restoreId: string): Promise<void> {
  for (const keepDirectory of [true, false]) {
    const { live, holder: holderPath } = await placeOf(path, keepDirectory);
    using holder = await openIfThere(holderPath);
    if (holder === undefined) continue;
    const { staged } = namesOf(live, holderPath, restoreId);
    await keepingTime(holder, holderPath === live, () => removeTree(holder, staged));
  }
}

function namesOf(live: string, holder: string, restoreId: string): Pick<TreeExchange, 'staged' | 'previous'> {
  const prefix = holder === live ? '' : besideStem(basename(live));
  return { staged: `${prefix}.tars-new-${restoreId}`, previous: `${prefix}.tars-prev-${restoreId}` };
}

/** Where the tree really is, and where its replacement is staged. The tree may be missing. */
async function placeOf(path: string, keepDirectory: boolean): Promise<Pick<TreeExchange, 'live' | 'holder'>> {
  const live = await liveOf(path);
  if (keepDirectory || live === '/' || (await isMountPoint(live))) return { live, holder: live };
  return { live, holder: dirname(live) };
}

async function liveOf(path: string): Promise<string> {
  try {
    using opened = await openPath(path, { access: 'path' });
    return opened.path;
  } catch (error) {
    if (!isMissingPath(error)) throw error;
    return path;
  }
}

/** True for the root of a file system, and for a bind mount, which has the same device as its surroundings. */
async function isMountPoint(live: string): Promise<boolean> {
  using above = await openIfThere(dirname(live), 'path');
  using own = await openIfThere(live, 'path');
  if (above === undefined || own === undefined) return false;
  return own.stat().dev !== above.stat().dev || (await mountPoints()).includes(live);
}

/** Removes what was staged. Harmless when it is gone. */
export async function removeStagedTree({ holder: path, live, staged }: TreeExchange): Promise<void> {
  using holder = await openIfThere(path);
  if (holder !== undefined) await keepingTime(holder, path === live, () => removeTree(holder, staged));
}

/** The directory at a path; undefined when it is missing. */
export async function openIfThere(
  path: string,
  access: 'read' | 'path' = 'read',
): Promise<OpenDirectory | undefined> {
  try {
    return (await openPath(path, { access })).directory;
  } catch (error) {
    if (isMissingPath(error)) return undefined;
    throw error;
  }
}

/** Whether {@link openPath} found nothing there, or no directory. */
export const isMissingPath = (error: unknown): boolean =>
  error instanceof TarsError && isMissing(error.cause);
