import { join } from 'node:path';
import { statSync } from 'node:fs';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import { messageOf } from '../../../model/errors.ts';
import type { FileIdentity } from '../../../ports/artifacts.ts';
import type { DatabaseContent } from '../sqlite/check-worker.ts';
import type { DatabaseChecker } from '../sqlite/checker.ts';
import { companionSuffixes, type CompanionSuffix } from '../sqlite/header.ts';
import { holdDatabase, type HeldDatabase } from '../sqlite/read-transaction.ts';
import type { MarkedFile } from './marked.ts';
import { isProven } from './note.ts';
import type { ScratchCopies } from './scratch-copies.ts';

/** With a rollback journal, commits of the program wait as long as a larger one is read; some wait for five seconds at most. */
const blockingBytesMax = 1 << 30;

/** A database at the mark. */
export class MarkedDatabase {
  /** In its tree. */
  readonly path: string;
  readonly journal: 'wal' | 'rollback' | undefined;
  readonly #live: string;
  readonly #identity: FileIdentity;
  readonly #copies: ScratchCopies;
  /** Copies of its files as they were at the mark. */
  readonly #files = new Map<'' | CompanionSuffix, string>();
  readonly #onlyForCheck: string[] = [];
  #held: HeldDatabase | undefined;
  #isTransaction = false;
  #taken: string | undefined;
  /** Why it could not be read as one. */
  failure: string | undefined;

  constructor(
    { path, identity, journal }: Pick<MarkedFile, 'path' | 'identity'> & Pick<MarkedDatabase, 'journal'>,
    tree: string,
    copies: ScratchCopies,
  ) {
    this.path = path;
    this.journal = journal;
    this.#live = join(tree, path);
    this.#identity = identity;
    this.#copies = copies;
  }

  /** It is read as one by SQLite, and its files are not. */
  get isTransaction(): boolean {
    return this.#isTransaction;
  }

  /** The file that stands for all of its files; undefined where they stand for themselves. */
  get taken(): string | undefined {
    return this.#taken;
  }

  /** A file of it has a copy. @param isBody the copy is also what is captured */
  add(suffix: '' | CompanionSuffix, copy: string | undefined, isBody: boolean): void {
    if (copy === undefined) return;
    this.#files.set(suffix, copy);
    if (!isBody) this.#onlyForCheck.push(copy);
  }

  /** It is written meanwhile: to be read by SQLite after the mark, at a moment of its own. */
  leave(): void {
    this.#isTransaction = true;
  }

  /** Fixes its state now, to be read after the mark. False when that is not possible. */
  hold(): boolean {
    if (this.#held !== undefined) return true;
    if (this.#blocksTooLong()) return false;
    try {
      this.#held = holdDatabase(this.#live, this.#identity, 0);
      this.#isTransaction = true;
    } catch {
      return false;
    }
    return true;
  }

  /** Reads it by SQLite. @returns whether its state is that of the mark, or a later one */
  async take(): Promise<'of the mark' | 'later' | 'failed'> {
    if (this.#blocksTooLong()) {
      this.failure = 'its program could not commit while a database of this size is read in rollback mode';
      return 'failed';
    }
    const wasHeld = this.#held !== undefined;
    const copy = this.#copies.name();
    try {
      using held = this.#held ?? holdDatabase(this.#live, this.#identity);
      await held.copyTo(this.#copies.path(copy));
      this.#taken = copy;
      return wasHeld ? 'of the mark' : 'later';
    } catch (error) {
      this.#copies.remove(copy);
      this.failure = messageOf(error);
      return 'failed';
    } finally {
      this.#held = undefined;
    }
  }

  /** Its files stand for themselves again. */
  dropTaken(): void {
    if (this.#taken !== undefined) this.#copies.remove(this.#taken);
    this.#taken = undefined;
  }

  #blocksTooLong(): boolean {
    return this.journal === 'rollback' && this.#identity.sizeBytes > blockingBytesMax;
  }

  /** What it holds; undefined where there is no copy. */
  async check(checker: DatabaseChecker, signal: AbortSignal): Promise<DatabaseContent | undefined> {
    const name = this.#taken ?? this.#files.get('');
    if (name === undefined) return undefined;
    const pathOf = (suffix: CompanionSuffix): string | undefined => {
      const copy = this.#taken === undefined ? this.#files.get(suffix) : undefined;
      return copy === undefined ? undefined : this.#copies.path(copy);
    };
    const main = this.#copies.path(name);
    const copy = { main, wal: pathOf('-wal'), journal: pathOf('-journal'), sizeBytes: statSync(main).size };
    return checker.check(copy, signal);
  }

  get sizeBytes(): number {
    return this.#taken === undefined
      ? this.#identity.sizeBytes
      : statSync(this.#copies.path(this.#taken)).size;
  }

  /** Removes the copies that are not captured themselves. */
  removeCopies(): void {
    for (const copy of this.#onlyForCheck.splice(0)) this.#copies.remove(copy);
  }

  [Symbol.dispose](): void {
    this.#held?.[Symbol.dispose]();
    this.#held = undefined;
  }
}

/** True when nobody has written a database for so long that the copies of its files belong together. */
export function isAtRest(parent: OpenDirectory, name: string, nowNs: bigint): boolean {
  return ['', ...companionSuffixes].every((suffix) => {
    const stats = parent.lstat(name + suffix);
    return stats === undefined || isProven(stats, nowNs);
  });
}
