import { throwIfAborted } from '../../model/abort.ts';
import { RepositoryLockedError, toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { removeOwnLock, saveLock, settleMs, type LockableRepository } from './lock-file.ts';
import { refreshEveryMs, staleAfterMs } from './lock-record.ts';

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
/** Given up before others call the lock stale, so that clocks may differ a little. */
const refreshableForMs = staleAfterMs - 1.5 * refreshEveryMs;
/** Timers pause while a machine sleeps, so the age is looked at often instead of waited for once. */
const lookEveryMs = 1000;
const retryRefreshAfterMs = 30_000;

/** Refreshes in the background from its making on; `name` is that of the lock that was written. */
export class RefreshedLock implements HeldLock {
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
    await removeOwnLock(this.#repo, this.#name, this.#ctx);
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
      await removeOwnLock(this.#repo, successor, this.#ctx);
      throw error;
    }
    const previous = this.#name;
    this.#name = successor;
    await removeOwnLock(this.#repo, previous, this.#ctx);
  }

  async #requirePresent(): Promise<void> {
    const before = this.#name;
    const listed = this.#repo.storage.list('locks', this.#ctx.signal);
    const names = await Array.fromAsync(listed, ({ name }) => name);
    // A refresh that goes on meanwhile gives the lock another name.
    if (names.includes(before) || names.includes(this.#name)) return;
    throw new RepositoryLockedError('Someone else removed it');
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
    hint: 'Run the command again. Snapshots that were published before are not affected.',
    cause,
  });
}
