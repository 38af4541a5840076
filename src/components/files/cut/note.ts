import type { BigIntStats } from 'node:fs';
import type { LiveStep } from '../tree/entry.ts';
import { comparePaths } from '../tree/joined.ts';
import { readLines } from './lines.ts';
import { decodeMarked, encodeMarked, type MarkedEntry, type MarkedFile } from './marked.ts';

/**
 * A file that changes within the granularity of time stamps after it was looked at keeps the time stamps that it had: two
 * seconds on the coarsest file systems, some milliseconds on others.
 */
export const timestampMarginNs = 2_000_000_000n;

/**
 * True when a later change would show in the time stamps. A time of change in the future is a wrong clock, and proves
 * nothing; a time of modification there was set by somebody, which the time of change tells.
 * @param nowNs when it was looked at, before its first byte was read
 */
export function isProven(
  { mtimeNs, ctimeNs }: Pick<BigIntStats, 'mtimeNs' | 'ctimeNs'>,
  nowNs: bigint,
): boolean {
  const latest = nowNs - timestampMarginNs;
  return ctimeNs < latest && (mtimeNs < latest || mtimeNs > nowNs);
}

/**
 * Everything that tells an entry unchanged: what a walk finds again with one look. Its path comes first. Owners and
 * extended attributes are not in it, as a change of theirs changes the time of change.
 */
export function keyOf({ path, stats }: Pick<LiveStep, 'path' | 'stats'>): string {
  const { mode, size, mtimeNs, ctimeNs, ino, dev, nlink } = stats;
  return `${JSON.stringify(path)} ${mode} ${size} ${mtimeNs} ${ctimeNs} ${ino} ${dev} ${nlink}`;
}

/** A line of a note. Without `entry`, nothing is known of it but that it was there. */
export function noteLine(key: string, entry?: MarkedEntry): string {
  if (entry === undefined) return `?${key}`;
  const isOfDatabase = entry.type === 'file' && entry.database !== undefined;
  return `${isOfDatabase ? databaseMark : '='}${key}\t${encodeMarked(entry)}`;
}

/** Begins the line of a file that belongs to a database. */
const databaseMark = '#';

/** What a walk noted, line by line in the order of walks: by the bytes of names, directories before what is in them. */
export class NoteReader implements Disposable {
  readonly #lines: Generator<string, undefined, undefined>;
  #line: string | undefined;

  constructor(path: string) {
    this.#lines = readLines(path);
    this.next();
  }

  /** The present line; undefined after the last. */
  get line(): string | undefined {
    return this.#line;
  }

  get entry(): MarkedEntry | undefined {
    const at = this.#line?.indexOf('\t') ?? -1;
    return at < 0 || this.#line === undefined ? undefined : decodeMarked(this.#line.slice(at + 1));
  }

  /** The present line, where it is a whole one of a file that belongs to a database. */
  get databaseFile(): MarkedFile | undefined {
    return this.#line?.startsWith(databaseMark) === true ? (this.entry as MarkedFile) : undefined;
  }

  next(): void {
    this.#line = this.#lines.next().value;
  }

  /** Goes on to the line of `path`, or where it would be. Returns how many lines it passed over. */
  skipTo(path: string): number {
    let count = 0;
    while (this.#line !== undefined && comparePaths(pathOf(this.#line), path) < 0) {
      this.next();
      count += 1;
    }
    return count;
  }

  isAt(path: string): boolean {
    return this.#line !== undefined && pathOf(this.#line) === path;
  }

  /** True when the present line is a whole one of this key: it proves that the entry is the same. */
  isSame(key: string): boolean {
    return this.#line?.startsWith(key, 1) === true && this.#line[key.length + 1] === '\t';
  }

  [Symbol.dispose](): void {
    this.#lines.return(undefined);
  }
}

/** A path has no unescaped quotation mark. */
const pathOf = (line: string): string =>
  JSON.parse(/^.("(?:[^"\\]|\\.)*")/s.exec(line)?.[1] ?? '""') as string;
