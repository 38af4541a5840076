import { readdir, readlink, stat } from 'node:fs/promises';
import { hasErrno } from '../../../model/errors.ts';

/**
 * Ids of processes that have `path` open, as far as /proc tells (nothing elsewhere than on Linux; other users'
 * processes only for root). Compares device and inode, since a container sees the file under another name.
 */
export async function processesWithOpenFile(path: string): Promise<readonly number[]> {
  let wanted: { dev: bigint; ino: bigint };
  try {
    wanted = await stat(path, { bigint: true });
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return [];
    throw error;
  }
  const found: number[] = [];
  for (const name of await readdir('/proc').catch(() => [])) {
    if (/^\d+$/.test(name) && (await hasOpen(`/proc/${name}/fd`, wanted))) found.push(Number(name));
  }
  return found;
}

async function hasOpen(folder: string, wanted: { dev: bigint; ino: bigint }): Promise<boolean> {
  for (const descriptor of await readdir(folder).catch(() => [])) {
    const link = `${folder}/${descriptor}`;
    // Sockets and pipes need no stat.
    const target = await readlink(link).catch(() => '');
    if (!target.startsWith('/')) continue;
    const opened = await stat(link, { bigint: true }).catch(() => undefined);
    if (opened?.ino === wanted.ino && opened.dev === wanted.dev) return true;
  }
  return false;
}
