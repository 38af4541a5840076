import { readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isMissing } from '../../disk/is-there.ts';
import { hasErrno } from '../../model/errors.ts';
import { besideStem } from './beside-name.ts';
import type { Leftover } from '../../ports/component.ts';
import { shellWord } from '../../model/shell-word.ts';

/** Names that restores give to what they stage and set aside, also after a way back by hand. */
export const leftoverName = /\.tars-(new|prev)-[a-z0-9]+(\.restored|\.stray)?$/;

/** What restores left in the directory or file at each of `paths`, and beside it, also where a link leads to it. */
export async function leftoversAt(paths: readonly string[]): Promise<readonly Leftover[]> {
  const found = new Set<string>();
  for (const path of new Set([...paths, ...(await Promise.all(paths.map(realPath)))])) {
    const beside = `${besideStem(basename(path))}.tars-`;
    for (const name of await namesIn(path)) if (name.startsWith('.tars-')) found.add(join(path, name));
    for (const name of await namesIn(dirname(path)))
      if (name.startsWith(beside)) found.add(join(dirname(path), name));
  }
  return [...found]
    .filter((path) => leftoverName.test(path))
    .sort()
    .map((path) => ({ what: path, remove: `rm -rf ${shellWord(path)}` }));
}

/** As it is, where nothing is there: what was set aside may lie beside it all the same. */
async function realPath(path: string): Promise<string> {
  return realpath(path).catch((error: unknown) => {
    if (isMissing(error) || hasErrno(error, 'EACCES')) return path;
    throw error;
  });
}

/** None where there is no directory, or none that this user may look into: other checks say so. */
async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].some((errno) => hasErrno(error, errno))) return [];
    throw error;
  }
}
