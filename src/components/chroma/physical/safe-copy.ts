import { constants } from 'node:fs';
import { access, copyFile, lstat, mkdir, open, readlink, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isMissing } from '../../../disk/is-there.ts';
import { throwIfAborted } from '../../../model/abort.ts';
import { CleanupStack } from '../../../model/cleanup-stack.ts';
import { formatMs } from '../../../model/duration.ts';
import { hasErrno, messageOf, TarsError, toTarsError } from '../../../model/errors.ts';
import { openScratch, type ScratchDirectory } from '../../../disk/run-scratch.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { requireSpace } from '../../paths/file-bytes.ts';
import { sqliteFileName } from '../direct/tables.ts';
import type { CopyOutcome, PersistCopy } from './capture.ts';
import {
  listDirectory,
  sameFile,
  sameListing,
  totalBytes,
  type EntryStats,
  type ListedEntry,
} from './directory-listing.ts';
import { lockingNeeds, LockProcess } from './lock-process.ts';

/** How long nothing may have been written to the vector files before they count as not being saved. */
const quietMs = 300;
const pollMs = 50;
/** Chroma's own writers wait 5 s for the lock before they fail (sqlx's default busy timeout). */
const chromaBusyTimeoutMs = 5000;
/** For how long vector files that keep changing are waited for under the lock. */
const unstableMaxMs = 4000;
/** A file changed less than this before it was copied may have changed again with the same time stamp. */
const timestampMarginMs = 2000;
/** The holder lets go by itself after this long, or what reading everything at 50 MB/s would take. */
const holdMaxMs = 60_000;
const slowestBytesPerMs = 50_000;

/** SQLite file format, section 1.2. */
const sqliteMagic = 'SQLite format 3\0';

interface CopiedEntry {
  readonly entry: ListedEntry;
  /** False when the file may have been copied while it changed. */
  readonly trusted: boolean;
}

/**
 * A copy of a live persist directory as it was at one moment (DESIGN.md section 8): a warm copy first, then the
 * write lock on `chroma.sqlite3` held by a process of its own, the vector files quiet, and what changed since
 * copied again. The lock is proven from a third process before it is given back.
 */
export class SafeCopy implements PersistCopy {
  readonly method = 'physical';
  readonly locksFile = true;
  readonly source: string;
  /** Holds the copy; mode 0700. Removed with the object. */
  readonly directory: string;
  readonly #scratch: ScratchDirectory;
  #holder: LockProcess;
  readonly #prober: LockProcess;
  readonly #copied = new Map<string, CopiedEntry>();
  #entries: ReadonlyMap<string, ListedEntry> = new Map();
  #lockedAtMs: number | undefined;
  #blockedMs = 0;

  /**
   * Checks the directory, starts the two lock processes and takes the warm copy.
   * @throws TarsError `capture-failed` without `chroma.sqlite3`, in WAL mode, or when the file cannot be locked
   * @throws TarsError `no-space`
   */
  static async prepare(source: string, scratchDir: string, ctx: OperationContext): Promise<SafeCopy> {
    await requirePersistDirectory(source);
    const listing = await listDirectory(source);
    await using stack = new CleanupStack();
    const scratch = stack.use(await openScratch(scratchDir, 'chroma'));
    await requireSpace(scratch.path, totalBytes(listing), `a copy of ${source}`);
    const path = join(source, sqliteFileName);
    const holder = stack.use(await LockProcess.start(path));
    const prober = stack.use(await LockProcess.start(path));
    const copy = new SafeCopy(source, scratch, holder, prober);
    for (const entry of listing.values()) {
      throwIfAborted(ctx.signal);
      await copy.#copyEntry(entry, ctx.clock.now().getTime() - timestampMarginMs);
    }
    stack.move();
    return copy;
  }

  private constructor(source: string, scratch: ScratchDirectory, holder: LockProcess, prober: LockProcess) {
    this.source = source;
    this.#scratch = scratch;
    this.directory = scratch.path;
    this.#holder = holder;
    this.#prober = prober;
  }

  /** What the copy holds, as it was in the source under the lock. */
  get entries(): ReadonlyMap<string, ListedEntry> {
    return this.#entries;
  }

  /** For how long Chroma could not write, over all attempts. */
  get writesBlockedMs(): number {
    return this.#blockedMs;
  }

  root(): Promise<EntryStats> {
    return lstat(this.source, { bigint: true });
  }

  /** The process that holds the lock, for tests that kill it. */
  get holderPid(): number | undefined {
    return this.#holder.pid;
  }

  /**
   * Takes the lock: the copy will show this moment.
   * @throws TarsError `capture-failed` when a writer does not finish within `timeoutMs`
   */
  async lock(timeoutMs: number, ctx: Pick<OperationContext, 'clock' | 'signal'>): Promise<void> {
    throwIfAborted(ctx.signal);
    if (this.#holder.ended) {
      await this.#holder[Symbol.asyncDispose]();
      this.#holder = await LockProcess.start(join(this.source, sqliteFileName));
    }
    const holdMs = Math.max(
      holdMaxMs,
      totalBytes(new Map([...this.#copied].map(([path, { entry }]) => [path, entry]))) / slowestBytesPerMs,
    );
    if (!(await this.#holder.lock(timeoutMs, Math.ceil(holdMs)))) {
      throw new TarsError(
        'capture-failed',
        `Other programs wrote to ${this.source} without a gap for ${formatMs(timeoutMs)}`,
        {
          hint: 'Run the backup again when fewer writers are busy, or declare these services as writers, so that tars pauses them.',
        },
      );
    }
    this.#lockedAtMs = ctx.clock.monotonicMs();
    // Whoever gave up waiting for us will not call finish().
    if (ctx.signal.aborted) await this.#holder.release();
    throwIfAborted(ctx.signal);
  }

  /** Brings the copy to the locked moment and releases the lock, on every path. */
  async finish(ctx: OperationContext): Promise<CopyOutcome> {
    const lockedAtMs = this.#lockedAtMs;
    if (lockedAtMs === undefined) return 'lock-lost';
    let outcome: CopyOutcome;
    let released: boolean;
    try {
      outcome = await this.#copyLocked(lockedAtMs + unstableMaxMs, ctx);
      if (outcome === 'copied' && !(await this.#prober.isLockedByOthers())) outcome = 'lock-lost';
    } finally {
      released = await this.#release(lockedAtMs, ctx);
    }
    return released ? outcome : 'lock-lost';
  }

  async #release(lockedAtMs: number, ctx: OperationContext): Promise<boolean> {
    this.#lockedAtMs = undefined;
    const released = await this.#holder.release();
    const heldMs = ctx.clock.monotonicMs() - lockedAtMs;
    this.#blockedMs += heldMs;
    if (heldMs > chromaBusyTimeoutMs) {
      ctx.log.warn(
        `Chroma in ${this.source} could not write for ${Math.round(heldMs)} ms; writers that wait at most ${chromaBusyTimeoutMs} ms saw errors`,
      );
    }
    return released;
  }

  async #copyLocked(deadlineMs: number, ctx: OperationContext): Promise<CopyOutcome> {
    const copySqlite = async (): Promise<void> => {
      const stats = await lstat(join(this.source, sqliteFileName), { bigint: true });
      await this.#copyUnlessSame({ path: sqliteFileName, stats });
    };
    const [before] = await Promise.all([this.#waitUntilQuiet(deadlineMs, ctx), copySqlite()]);
    let listing = before;
    for (;;) {
      if (listing === undefined) return 'unstable';
      for (const path of this.#copied.keys()) if (!listing.has(path)) await this.#removeCopied(path);
      for (const entry of listing.values()) await this.#copyUnlessSame(entry);
      const after = await listDirectory(this.source);
      if (sameListing(listing, after)) {
        this.#entries = after;
        return 'copied';
      }
      listing = await this.#waitUntilQuiet(deadlineMs, ctx);
    }
  }

  /**
   * A save that had begun before the lock still writes its files; it cannot record that it did, so that the queue
   * keeps what the save contains. @returns the quiet listing, or undefined at the deadline
   */
  async #waitUntilQuiet(
    deadlineMs: number,
    ctx: OperationContext,
  ): Promise<ReadonlyMap<string, ListedEntry> | undefined> {
    let listing = await listDirectory(this.source);
    let quietSinceMs = ctx.clock.monotonicMs();
    while (ctx.clock.monotonicMs() - quietSinceMs < quietMs) {
      await ctx.clock.sleep(pollMs, ctx.signal);
      const next = await listDirectory(this.source);
      if (!sameListing(listing, next)) quietSinceMs = ctx.clock.monotonicMs();
      listing = next;
      if (ctx.clock.monotonicMs() > deadlineMs) return undefined;
    }
    return listing;
  }

  async #copyUnlessSame(entry: ListedEntry): Promise<void> {
    const copied = this.#copied.get(entry.path);
    if (copied?.trusted === true && sameFile(copied.entry, entry)) return;
    await this.#copyEntry(entry, undefined);
  }

  /** @param trustedBeforeMs files changed at or after this wall clock time are not trusted; undefined trusts all */
  async #copyEntry(entry: ListedEntry, trustedBeforeMs: number | undefined): Promise<void> {
    const { path, stats, linkTarget } = entry;
    const target = join(this.directory, path);
    if (stats.isDirectory()) {
      await mkdir(target, { recursive: true, mode: 0o700 });
    } else {
      await rm(target, { recursive: true, force: true });
      await mkdir(dirname(target), { recursive: true, mode: 0o700 });
      if (linkTarget !== undefined) await symlink(linkTarget, target);
      else if (!(await copyIfPresent(join(this.source, path), target))) return;
    }
    const trusted = trustedBeforeMs === undefined || Number(stats.mtimeNs / 1_000_000n) < trustedBeforeMs;
    this.#copied.set(path, { entry, trusted });
  }

  async #removeCopied(path: string): Promise<void> {
    await rm(join(this.directory, path), { recursive: true, force: true });
    this.#copied.delete(path);
  }

  /** Releases the lock if it is still held, by ending its process, and removes the copy. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#holder[Symbol.asyncDispose](), this.#prober[Symbol.asyncDispose]()]);
    await this.#scratch[Symbol.asyncDispose]();
  }
}

/** Shares the blocks where the file system can. @returns false when the file has vanished */
async function copyIfPresent(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw toTarsError(error, `Cannot copy ${from}`);
  }
}

/**
 * What the lock of a capture needs, without taking it: so that a plan refuses what the capture would.
 * @throws TarsError `capture-failed`
 */
export async function requireLockable(directory: string): Promise<void> {
  for (const path of [directory, join(directory, sqliteFileName)]) {
    try {
      await access(path, constants.W_OK);
    } catch (cause) {
      throw new TarsError(
        'capture-failed',
        `Cannot lock ${join(directory, sqliteFileName)}: ${messageOf(cause)}`,
        {
          hint: lockingNeeds,
          cause,
        },
      );
    }
  }
}

/** A snapshot would hold the link alone, and SQLite keeps its journal beside the file that it names. */
async function refuseLink(path: string): Promise<void> {
  const stats = await lstat(path).catch(() => undefined);
  if (stats?.isSymbolicLink() !== true) return;
  throw new TarsError('capture-failed', `${path} is a symbolic link to ${await readlink(path)}`, {
    hint: 'Stop Chroma and move the file itself to this place. To keep the data on another disk, move the whole directory there and point path in tars.yaml to it.',
  });
}

/**
 * @throws TarsError `capture-failed` when `directory` is no Chroma directory, or one this copy is not safe for
 */
export async function requirePersistDirectory(directory: string): Promise<void> {
  const path = join(directory, sqliteFileName);
  await refuseLink(path);
  let header: Buffer;
  let headerBytes: number;
  try {
    const handle = await open(path, constants.O_RDONLY);
    try {
      ({ buffer: header, bytesRead: headerBytes } = await handle.read(Buffer.alloc(100), 0, 100, 0));
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (!isMissing(cause)) throw toTarsError(cause, `Cannot read ${path}`);
    throw new TarsError('capture-failed', `There is no ${sqliteFileName} in ${directory}`, {
      hint:
        'Point path in tars.yaml to the directory that holds it. Chroma 1.0 moved it from /chroma/chroma to /data ' +
        'inside the container: a volume still mounted at the old place stays empty.',
      cause,
    });
  }
  // An empty file is a database without tables: what a server leaves that is killed at its first start.
  if (headerBytes > 0 && header.toString('latin1', 0, sqliteMagic.length) !== sqliteMagic) {
    throw new TarsError('capture-failed', `${path} is not a SQLite database`, {
      hint:
        'Something else has overwritten it. Stop Chroma and restore the directory from a snapshot, or point path in ' +
        'tars.yaml to the directory that Chroma uses.',
    });
  }
  // SQLite file format, section 1.3: read and write version 2 mean WAL.
  if (header[18] !== 2 && header[19] !== 2) return;
  throw new TarsError(
    'capture-failed',
    `${path} is in WAL mode, which Chroma never uses and tars cannot copy`,
    {
      hint: 'Run PRAGMA journal_mode=DELETE on it, or remove path from tars.yaml, so that tars captures over HTTP.',
    },
  );
}
