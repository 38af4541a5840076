import { lstatSync, mkdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { hasErrno } from '../model/errors.ts';
import { isThere } from './is-there.ts';

/**
 * Creates the directory `path` and what is missing above it; returns what was created, the uppermost first. Node's own
 * recursion never ends where a directory that is there answers ENOENT to new entries, as /proc and an automounter do.
 * @throws Error of the system
 */
export async function makeDirectories(path: string, mode = 0o777): Promise<readonly string[]> {
  try {
    await mkdir(path, { mode });
    return [path];
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return [];
    if (!hasErrno(error, 'ENOENT') || (await isThere(dirname(path)))) throw error;
  }
  const above = await makeDirectories(dirname(path), mode);
  return [...above, ...(await makeDirectories(path, mode))];
}

/** {@link makeDirectories} for what must not let others go on meanwhile. */
export function makeDirectoriesSync(path: string, mode = 0o777): void {
  try {
    mkdirSync(path, { mode });
    return;
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return;
    const above = lstatSync(dirname(path), { throwIfNoEntry: false });
    if (!hasErrno(error, 'ENOENT') || above !== undefined) throw error;
  }
  makeDirectoriesSync(dirname(path), mode);
  makeDirectoriesSync(path, mode);
}
