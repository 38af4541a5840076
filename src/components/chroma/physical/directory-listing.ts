import type { BigIntStats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { whenMissing } from '../../../disk/is-there.ts';
import { sqliteFileName, transientFileNames } from '../direct/tables.ts';

/** What is kept of an entry's `lstat`. */
export type EntryStats = Pick<
  BigIntStats,
  'mode' | 'uid' | 'gid' | 'size' | 'mtimeNs' | 'ctimeNs' | 'ino' | 'isFile' | 'isDirectory'
>;

/** One file, directory or symbolic link of a persist directory. */
export interface ListedEntry {
  /** Relative, `/`-separated. */
  readonly path: string;
  readonly stats: EntryStats;
  readonly linkTarget?: string;
}

/**
 * Never part of a copy: SQLite's transient files (the lock guarantees that none is needed), what earlier restores
 * left beside a mount point's entries, and the file system's own.
 */
export function isForeign(name: string): boolean {
  return name === 'lost+found' || name.startsWith('.tars-') || transientFileNames.includes(name);
}

/** Everything below `root`, parents first. Entries that vanish meanwhile are left out; sockets and pipes too. */
export async function listDirectory(root: string): Promise<Map<string, ListedEntry>> {
  const entries = new Map<string, ListedEntry>();
  const visit = async (folder: string): Promise<void> => {
    const names = await readdir(join(root, folder)).catch(whenMissing(undefined));
    for (const name of (names ?? []).sort()) {
      if (folder === '' && isForeign(name)) continue;
      const path = folder === '' ? name : `${folder}/${name}`;
      const stats = await lstat(join(root, path), { bigint: true }).catch(whenMissing(undefined));
      if (stats === undefined) continue;
      if (stats.isSymbolicLink()) {
        const linkTarget = await readlink(join(root, path)).catch(whenMissing(undefined));
        if (linkTarget !== undefined) entries.set(path, { path, stats, linkTarget });
      } else if (stats.isFile()) {
        entries.set(path, { path, stats });
      } else if (stats.isDirectory()) {
        entries.set(path, { path, stats });
        await visit(path);
      }
    }
  };
  await visit('');
  return entries;
}

/** True when nothing tells the two apart: size, times and inode. */
export function sameFile(a: ListedEntry, b: ListedEntry): boolean {
  return (
    a.stats.size === b.stats.size &&
    a.stats.mtimeNs === b.stats.mtimeNs &&
    a.stats.ctimeNs === b.stats.ctimeNs &&
    a.stats.ino === b.stats.ino &&
    a.linkTarget === b.linkTarget
  );
}

/** True when both listings hold the same entries; `chroma.sqlite3` is guarded by its lock and is not compared. */
export function sameListing(
  a: ReadonlyMap<string, ListedEntry>,
  b: ReadonlyMap<string, ListedEntry>,
): boolean {
  if (a.size !== b.size) return false;
  for (const [path, entry] of a) {
    const other = b.get(path);
    if (other === undefined) return false;
    if (path !== sqliteFileName && !entry.stats.isDirectory() && !sameFile(entry, other)) return false;
  }
  return true;
}

/** The bytes of all regular files. */
export function totalBytes(entries: ReadonlyMap<string, ListedEntry>): number {
  let sum = 0;
  for (const { stats } of entries.values()) if (stats.isFile()) sum += Number(stats.size);
  return sum;
}
