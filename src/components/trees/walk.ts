import type { BigIntStats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, TarsError, toTarsError } from '../../model/errors.ts';

/** Something found in a tree. */
export interface WalkedEntry {
  /** Relative to the tree; empty for its own directory. */
  readonly path: string;
  readonly stats: BigIntStats;
}

/** What another restore works with in the tree's own directory. */
const ownName = /^\.tars-(new|prev)-[a-z0-9]+$/;

/**
 * Everything at and below `root`, parents first, in byte order of names. What vanishes meanwhile is left out.
 * @param onFailure told of a directory that cannot be read; the walk goes on beside it
 */
export async function* walkTree(
  root: string,
  excluded: ReadonlySet<string>,
  onFailure: (path: string, error: TarsError) => void,
  signal: AbortSignal,
): AsyncGenerator<WalkedEntry> {
  const pending = [''];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    signal.throwIfAborted();
    if (excluded.has(path)) continue;
    const stats = await statIfThere(join(root, path), path, onFailure);
    if (stats === undefined) continue;
    yield { path, stats };
    if (!stats.isDirectory()) continue;
    const names = await namesIn(join(root, path), path, onFailure);
    const below = names.filter((name) => path !== '' || !ownName.test(name));
    // The last one pushed is the next one walked.
    for (const name of below.reverse()) pending.push(path === '' ? name : `${path}/${name}`);
  }
}

async function statIfThere(
  at: string,
  path: string,
  onFailure: (path: string, error: TarsError) => void,
): Promise<BigIntStats | undefined> {
  try {
    return await lstat(at, { bigint: true });
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) onFailure(path, toTarsError(error, `Cannot look at ${at}`));
    return undefined;
  }
}

async function namesIn(
  at: string,
  path: string,
  onFailure: (path: string, error: TarsError) => void,
): Promise<string[]> {
  try {
    const names = await readdir(at, { encoding: 'buffer' });
    return names
      .sort((a, b) => a.compare(b))
      .flatMap((bytes) => {
        const name = bytes.toString('utf8');
        if (Buffer.from(name, 'utf8').equals(bytes)) return [name];
        onFailure(path, new TarsError('capture-failed', `${join(at, name)} has a name that is not UTF-8`));
        return [];
      });
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) onFailure(path, toTarsError(error, `Cannot read the directory ${at}`));
    return [];
  }
}
