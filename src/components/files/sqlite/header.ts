import { readSync, type BigIntStats } from 'node:fs';

const magic = Buffer.from('SQLite format 3\0', 'latin1');
/** Of the smallest page; every database is a whole number of these. */
const pageBytesMin = 512n;
/** A journal that SQLite would roll back begins with this. */
const journalMagic = Buffer.from('d9d505f920a163d7', 'hex');

/** What lies beside a database and belongs to its content. */
export const companionSuffixes = ['-journal', '-wal'] as const;
export type CompanionSuffix = (typeof companionSuffixes)[number];
/** Only the connections that have it open can use it, and the first one writes it anew. */
const indexSuffix = '-shm';

/** True for what may be a database by its size alone. */
export const mayBeDatabase = ({ size }: Pick<BigIntStats, 'size'>): boolean =>
  size >= pageBytesMin && size % pageBytesMin === 0n;

export type JournalMode = 'wal' | 'rollback';

/** How a database says that it keeps its journal; undefined for what is no database. @throws Error of the system */
export function journalModeOf(descriptor: number): JournalMode | undefined {
  const header = Buffer.alloc(20);
  if (readSync(descriptor, header, 0, header.length, 0) < header.length) return undefined;
  if (!header.subarray(0, magic.length).equals(magic)) return undefined;
  return header[18] === 2 ? 'wal' : 'rollback';
}

/** Whether a `-journal` holds what SQLite would roll back. @throws Error of the system */
export function isHotJournal(descriptor: number): boolean {
  const header = Buffer.alloc(journalMagic.length);
  return readSync(descriptor, header, 0, header.length, 0) === header.length && header.equals(journalMagic);
}

/** A file beside a database: a part of its content, or the index that its connections share, which is not captured. */
export type BesideDatabase =
  | { readonly of: string; readonly suffix: CompanionSuffix }
  | { readonly of: string; readonly suffix: typeof indexSuffix };

/** Of which database a file would be a part, by its name. */
export function partOf(path: string): BesideDatabase | undefined {
  for (const suffix of [...companionSuffixes, indexSuffix] as const)
    if (path.endsWith(suffix) && path.length > suffix.length)
      return { of: path.slice(0, -suffix.length), suffix };
  return undefined;
}
