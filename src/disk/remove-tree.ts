import { chmodSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { hasErrno, TarsError } from '../model/errors.ts';
import { isThere } from './is-there.ts';
import { isSameFile, OpenDirectory } from './open-directory.ts';
import { openPath } from './open-path.ts';

/** How many entries are removed before other work gets its turn. */
const entriesPerTurn = 500;

interface Level {
  readonly directory: OpenDirectory;
  readonly name: string;
  /** Still to be removed, the next one last. */
  readonly names: string[];
}

/**
 * Removes the entry `name` of `parent` with everything below, and never leaves that directory, its file system or its
 * mount. Harmless when it is not there. @throws TarsError when something is mounted in it; Error of the system
 */
export async function removeTree(parent: OpenDirectory, name: string): Promise<void> {
  const levels: Level[] = [];
  try {
    let done = await removeOrEnter(parent, name, levels);
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const next = level.names.pop();
      if (next !== undefined) done += await removeOrEnter(level.directory, next, levels);
      else await leave(levels, parent);
      if (done >= entriesPerTurn) {
        done = 0;
        await setImmediate();
      }
    }
  } finally {
    for (const { directory } of levels) directory.close();
  }
}

/**
 * {@link removeTree} of a path, through no link that another user may have put on the way there.
 * @throws TarsError `access-denied` for such a link
 */
export async function removeTreeAt(path: string): Promise<void> {
  if (!(await isThere(path))) return;
  using parent = await openPath(dirname(path));
  await removeTree(parent.directory, basename(path));
}

/** A directory becomes the next level. @returns how many entries it removed */
async function removeOrEnter(parent: OpenDirectory, name: string, levels: Level[]): Promise<number> {
  const stats = parent.lstat(name);
  if (stats === undefined) return 0;
  if (!stats.isDirectory()) {
    await ifThere(parent.unlink(name));
    return 1;
  }
  const directory = openWritable(parent, name);
  if (mountOf(directory) === mountOf(parent)) {
    levels.push({ directory, name, names: directory.names().reverse() });
    return 0;
  }
  directory.close();
  throw new TarsError('access-denied', `Cannot delete ${pathIn(parent, name)}: something is mounted there`, {
    hint: 'Unmount it with umount, then run the command again.',
  });
}

/** Only a directory that one may write in can be emptied. */
function openWritable(parent: OpenDirectory, name: string): OpenDirectory {
  if (process.geteuid?.() === 0) return parent.openDirectory(name);
  using before = parent.openDirectory(name, 'path');
  if ((before.stat().mode & 0o700n) !== 0o700n) chmodSync(before.at('.'), 0o700);
  const directory = parent.openDirectory(name);
  if (isSameFile(before.stat(), directory.stat())) return directory;
  directory.close();
  throw new TarsError(
    'access-denied',
    `Another program replaced ${pathIn(parent, name)} while it was deleted`,
    {
      hint: 'Stop the program that writes there, then run the command again.',
    },
  );
}

async function leave(levels: Level[], top: OpenDirectory): Promise<void> {
  const left = levels.pop();
  if (left === undefined) return;
  left.directory.close();
  await ifThere((levels.at(-1)?.directory ?? top).rmdir(left.name));
}

async function ifThere(removal: Promise<void>): Promise<void> {
  try {
    await removal;
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}

/** For errors: where the kernel says that the directory is now. */
const pathIn = ({ descriptor }: OpenDirectory, name: string): string =>
  join(readlinkSync(`/proc/self/fd/${descriptor}`), name);

/** The kernel's number of the mount that a directory was reached through: a bind mount has one of its own. */
function mountOf({ descriptor }: OpenDirectory): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))?.[1];
}
