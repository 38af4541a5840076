import { RepositoryLockedError, TarsError, toTarsError } from '../model/errors.ts';
import type { OperationContext } from '../ports/context.ts';
import type { LockHolder } from '../ports/snapshot-store.ts';
import { throwIfAborted } from './abort.ts';
import { surviveHangup } from './lock-hangup.ts';
import {
  decodeLock,
  describeLock,
  encodeOwnLock,
  isStale,
  staleAfterMs,
  type LockRecord,
} from './lock-record.ts';
import type { OpenedRepository } from './open.ts';

/** What locks need of an opened repository. */
export type LockableRepository = Pick<OpenedRepository, 'storage' | 'loadUnpacked' | 'saveUnpacked'>;

/** A lock in the repository that is refreshed until it is disposed, which removes it. */
export interface HeldLock extends AsyncDisposable {
  /**
   * Aborts with the operation's signal, and with a {@link RepositoryLockedError} when the lock was removed by
   * somebody else or could not be refreshed in time: nothing may be written from then on.
   */
  readonly signal: AbortSignal;
  /**
   * For right before what nobody else may be in the way of: looks whether the lock is still there, which refreshing
   * notices only minutes later.
   * @throws RepositoryLockedError
   */
  confirm(): Promise<void>;
}

// Intervals of restic's internal/repository/lock.go and lock_file.go.
const settleMs = 200;
const refreshEveryMs = 5 * 60_000;
/** Given up before others call the lock stale, so that clocks may differ a little. */
const refreshableForMs = staleAfterMs - 1.5 * refreshEveryMs;
/** Timers pause while a machine sleeps, so the age is looked at often instead of waited for once. */
const lookEveryMs = 1000;
const retryRefreshAfterMs = 30_000;
const listAttempts = 4;
const removalTimeoutMs = 60_000;

/**
 * Locks the repository: shared (many may hold one at a time) or exclusive (nobody else may hold any).
 * @throws RepositoryLockedError naming the other holder
 */
export async function acquireLock(
  repo: LockableRepository,
  options: { readonly exclusive: boolean },
  ctx: OperationContext,
): Promise<HeldLock> {
  await refuseConflicts(repo, options.exclusive, undefined, ctx);
  const hangup = surviveHangup();
  let name: string | undefined;
  try {
    name = await saveLock(repo, options.exclusive, ctx);
    // Two who saw no lock have both written theirs by now, and both see the other's.
    await ctx.clock.sleep(settleMs, ctx.signal);
    await refuseConflicts(repo, options.exclusive, name, ctx);
    return new RefreshedLock(repo, options.exclusive, name, hangup, ctx);
  } catch (error) {
    if (name !== undefined) await removeOwn(repo, name, ctx);
    hangup[Symbol.dispose]();
    throw options.exclusive ? withoutRoom(error) : error;
  }
}

/** On a full disk nothing can be removed either, as the lock for that is a file. */
function withoutRoom(error: unknown): unknown {
  if (!(error instanceof TarsError) || error.code !== 'no-space') return error;
  return new TarsError('no-space', error.message, {
    hint: 'Removing needs a lock there, of one block (4 KiB). Make that room with something else on that file system, never with a file of the repository, or run this as root, for whom ext4 keeps a reserve; then tars forget, and tars prune --max-repack-size 0.',
    context: error.context,
    cause: error,
  });
}

/**
 * Removes locks whose holders are dead or stale, or with `all` every lock, damaged ones too. Only for when no
 * other process uses the repository.
 * @returns how many were removed
 */
export async function removeLocks(
  repo: LockableRepository,
  options: { readonly all: boolean },
  ctx: OperationContext,
): Promise<number> {
  let removed = 0;
  for (const { name } of await Array.fromAsync(repo.storage.list('locks', ctx.signal))) {
    if (!options.all && !(await isRemovable(repo, name, ctx))) continue;
    await repo.storage.remove({ type: 'locks', name }, ctx.signal);
    removed += 1;
  }
  return removed;
}

/** Every lock there is. Takes none. */
export async function listHolders(
  repo: LockableRepository,
  ctx: OperationContext,
): Promise<readonly LockHolder[]> {
  const holders: LockHolder[] = [];
  for (const { name } of await Array.fromAsync(repo.storage.list('locks', ctx.signal))) {
    try {
      const lock = await loadLock(repo, name, ctx.signal);
      holders.push({ who: describeLock(lock, ctx.clock.now()), stale: isStale(lock, ctx.clock.now()) });
    } catch (error) {
      const { code, message } = toTarsError(error, `Cannot read lock ${name}`);
      if (code === 'interrupted') throw error;
      // It may have been removed since it was listed.
      if (code !== 'storage-not-found') holders.push({ who: message, stale: true });
    }
  }
  return holders;
}

async function isRemovable(repo: LockableRepository, name: string, ctx: OperationContext): Promise<boolean> {
  try {
    return isStale(await loadLock(repo, name, ctx.signal), ctx.clock.now());
  } catch (error) {
    const known = toTarsError(error, `Cannot read lock ${name}`);
    if (known.code === 'interrupted') throw known;
    if (known.code !== 'storage-not-found') {
      ctx.log.warn(`${known.message}; left alone, "tars unlock --all" removes it`);
    }
    return false;
  }
}

/** @throws CorruptionError when it is no lock */
export async function loadLock(
  repo: LockableRepository,
  name: string,
  signal: AbortSignal,
): Promise<LockRecord> {
  return decodeLock(await repo.loadUnpacked('locks', name, signal), name);
}

function saveLock(repo: LockableRepository, exclusive: boolean, ctx: OperationContext): Promise<string> {
  return repo.saveUnpacked('locks', encodeOwnLock(exclusive, ctx.clock.now()), ctx.signal);
}

/** Uses a signal of its own: the lock must go even when the operation was interrupted. */
async function removeOwn(repo: LockableRepository, name: string, ctx: OperationContext): Promise<void> {
  try {
    await repo.storage.remove({ type: 'locks', name }, AbortSignal.timeout(removalTimeoutMs));
  } catch (error) {
    ctx.log.warn(
      `${toTarsError(error, `Cannot remove lock ${name}`).message}; "tars unlock" removes it later`,
    );
  }
}

/**
 * Looks for locks that exclude one of ours. A lock that vanishes between listing and loading may have been
 * replaced by its refreshed successor, so the list is taken again.
 * @throws RepositoryLockedError
 */
async function refuseConflicts(
  repo: LockableRepository,
  exclusive: boolean,
  own: string | undefined,
  ctx: OperationContext,
): Promise<void> {
  const harmless = new Set(own === undefined ? [] : [own]);
  let unreadable: TarsError | undefined;
  for (let attempt = 1; attempt <= listAttempts; attempt += 1) {
    if (attempt > 1) await ctx.clock.sleep(settleMs, ctx.signal);
    unreadable = undefined;
    for (const { name, sizeBytes } of await Array.fromAsync(repo.storage.list('locks', ctx.signal))) {
      // Empty files are what interrupted uploads leave on some storages; restic passes over them too.
      if (sizeBytes === 0 || harmless.has(name)) continue;
      try {
        const lock = await loadLock(repo, name, ctx.signal);
        if (exclusive || lock.exclusive) throw conflict(repo, lock, ctx.clock.now());
        harmless.add(name);
      } catch (error) {
        unreadable = toTarsError(error, `Cannot read lock ${name}`);
        if (unreadable.code === 'repository-locked' || unreadable.code === 'interrupted') throw unreadable;
      }
    }
    if (unreadable === undefined) return;
  }
  throw new RepositoryLockedError(
    `The repository ${repo.storage.location} has a lock that cannot be read: ${unreadable?.message ?? ''}`,
    {
      hint: 'When no other process uses the repository, remove it with "tars unlock --all".',
      cause: unreadable,
    },
  );
}

function conflict(repo: LockableRepository, lock: LockRecord, now: Date): RepositoryLockedError {
  const how = lock.exclusive ? 'locked exclusively' : 'locked';
  return new RepositoryLockedError(
    `The repository ${repo.storage.location} is ${how} by ${describeLock(lock, now)}`,
    {
      hint: isStale(lock, now)
        ? 'Its holder is gone: remove the lock with "tars unlock".'
        : 'Wait until it has finished. If it crashed, "tars unlock" removes its lock once it is stale.',
      context: { hostname: lock.hostname, pid: lock.pid, time: lock.time, exclusive: lock.exclusive },
    },
  );
}

class RefreshedLock implements HeldLock {
  readonly signal: AbortSignal;
  readonly #repo: LockableRepository;
  readonly #exclusive: boolean;
  readonly #hangup: Disposable;
  readonly #ctx: OperationContext;
  readonly #lost = new AbortController();
  readonly #released = new AbortController();
  readonly #refreshing: Promise<void>;
  #name: string;

  constructor(
    repo: LockableRepository,
    exclusive: boolean,
    name: string,
    hangup: Disposable,
    ctx: OperationContext,
  ) {
    this.#repo = repo;
    this.#exclusive = exclusive;
    this.#name = name;
    this.#hangup = hangup;
    // Refreshing goes on until release: an interrupted operation may still be cleaning up.
    this.#ctx = { ...ctx, signal: this.#released.signal };
    this.signal = AbortSignal.any([ctx.signal, this.#lost.signal]);
    this.#refreshing = this.#refreshUntilReleased();
  }

  async confirm(): Promise<void> {
    throwIfAborted(this.signal);
    try {
      await this.#requirePresent();
    } catch (error) {
      if (!(error instanceof RepositoryLockedError)) throw error;
      this.#lost.abort(lostLock(this.#repo, error));
    }
    throwIfAborted(this.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#released.signal.aborted) return;
    this.#released.abort();
    await this.#refreshing;
    await removeOwn(this.#repo, this.#name, this.#ctx);
    this.#hangup[Symbol.dispose]();
  }

  async #refreshUntilReleased(): Promise<void> {
    const age = startAge(this.#ctx);
    let dueMs = refreshEveryMs;
    try {
      for (;;) {
        await this.#ctx.clock.sleep(lookEveryMs, this.#released.signal);
        if (age.elapsedMs() < dueMs) continue;
        try {
          await this.#refresh();
          age.restart();
          dueMs = refreshEveryMs;
        } catch (error) {
          if (this.#released.signal.aborted) return;
          if (error instanceof RepositoryLockedError || age.elapsedMs() > refreshableForMs) throw error;
          dueMs = age.elapsedMs() + retryRefreshAfterMs;
        }
      }
    } catch (error) {
      if (!this.#released.signal.aborted) this.#lost.abort(lostLock(this.#repo, error));
    }
  }

  /** A new lock file, then the old one goes, which must have been there all the while. */
  async #refresh(): Promise<void> {
    await this.#requirePresent();
    const successor = await saveLock(this.#repo, this.#exclusive, this.#ctx);
    try {
      await this.#ctx.clock.sleep(settleMs, this.#ctx.signal);
      await this.#requirePresent();
    } catch (error) {
      await removeOwn(this.#repo, successor, this.#ctx);
      throw error;
    }
    const previous = this.#name;
    this.#name = successor;
    await removeOwn(this.#repo, previous, this.#ctx);
  }

  async #requirePresent(): Promise<void> {
    const before = this.#name;
    const listed = this.#repo.storage.list('locks', this.#ctx.signal);
    const names = await Array.fromAsync(listed, ({ name }) => name);
    // A refresh that goes on meanwhile gives the lock another name.
    if (names.includes(before) || names.includes(this.#name)) return;
    throw new RepositoryLockedError('It was removed by somebody else');
  }
}

/** Elapsed time by whichever clock saw more of it: the monotonic one may stop while a machine sleeps. */
function startAge(ctx: OperationContext): { elapsedMs(): number; restart(): void } {
  let wallMs = 0;
  let monotonicMs = 0;
  const restart = (): void => {
    wallMs = ctx.clock.now().getTime();
    monotonicMs = ctx.clock.monotonicMs();
  };
  restart();
  return {
    elapsedMs: () => Math.max(ctx.clock.now().getTime() - wallMs, ctx.clock.monotonicMs() - monotonicMs),
    restart,
  };
}

function lostLock(repo: LockableRepository, cause: unknown): RepositoryLockedError {
  const reason = toTarsError(cause, 'It could not be refreshed').message;
  return new RepositoryLockedError(`The lock on the repository ${repo.storage.location} is lost: ${reason}`, {
    hint: 'Run the command again. Nothing that was published before is affected.',
    cause,
  });
}
