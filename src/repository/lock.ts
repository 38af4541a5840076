import { RepositoryLockedError, TarsError, toTarsError } from '../model/errors.ts';
import type { OperationContext } from '../ports/context.ts';
import { loadLock, removeOwnLock, saveLock, settleMs, type LockableRepository } from './lock-file.ts';
import { surviveHangup } from './lock-hangup.ts';
import { describeLock, isStale, type LockRecord } from './lock-record.ts';
import { RefreshedLock, type HeldLock } from './held-lock.ts';

const listAttempts = 4;

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
    if (name !== undefined) await removeOwnLock(repo, name, ctx);
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
