import { readdir, readlink, stat } from 'node:fs/promises';
import { isMissing, statIfThere } from '../../../disk/is-there.ts';
import { hasErrno, toTarsError } from '../../../model/errors.ts';

/**
 * Ids of processes that have `path` open, as far as /proc tells (nothing elsewhere than on Linux; other users'
 * processes only for root). Compares device and inode, since a container sees the file under another name.
 */
export async function processesWithOpenFile(path: string): Promise<readonly number[]> {
  const wanted = await statIfThere(path);
  if (wanted === undefined) return [];
  const found: number[] = [];
  for (const name of await orWhenGone(readdir('/proc'), [])) {
    if (/^\d+$/.test(name) && (await hasOpen(`/proc/${name}/fd`, wanted))) found.push(Number(name));
  }
  return found;
}

async function hasOpen(folder: string, wanted: { dev: bigint; ino: bigint }): Promise<boolean> {
  for (const descriptor of await orWhenGone(readdir(folder), [])) {
    const link = `${folder}/${descriptor}`;
    // Sockets and pipes need no stat.
    const target = await orWhenGone(readlink(link), '');
    if (!target.startsWith('/')) continue;
    const opened = await orWhenGone(stat(link, { bigint: true }), undefined);
    if (opened?.ino === wanted.ino && opened.dev === wanted.dev) return true;
  }
  return false;
}

/** A process may end and a file may be closed meanwhile; those of other users are closed to this one. */
async function orWhenGone<T, U>(answer: Promise<T>, otherwise: U): Promise<T | U> {
  try {
    return await answer;
  } catch (error) {
    if (isMissing(error) || ['ESRCH', 'EACCES', 'EPERM'].some((errno) => hasErrno(error, errno)))
      return otherwise;
    throw toTarsError(error, 'Cannot find the processes that have a file open');
  }
}
