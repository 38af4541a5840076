import { RepositoryLockedError, TarsError, toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { loadLock, removeOwnLock, saveLock, settleMs, type LockableRepository } from './lock-file.ts';
import { surviveHangup } from './lock-hangup.ts';
import { describeLock, lockState, type LockRecord } from './lock-record.ts';
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
    hint: 'To remove data, tars must write a lock file of one block (4 KiB) there. Delete something else on that file system, never a file of the repository, or run the command as root, because ext4 keeps a reserve for root. Then run tars forget and tars prune --max-repack-size 0.',
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
        const gone = await removeIfGone(repo, { name, lock }, ctx);
        if (!gone && (exclusive || lock.exclusive)) throw conflict(repo, lock, ctx.clock.now());
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

/** Where nothing can be deleted, a lock of a dead process stays, and still is in nobody's way. */
async function removeIfGone(
  repo: LockableRepository,
  { name, lock }: { readonly name: string; readonly lock: LockRecord },
  ctx: OperationContext,
): Promise<boolean> {
  const now = ctx.clock.now();
  if (lockState(lock, now) !== 'gone') return false;
  const left = `the lock that ${describeLock(lock, now)} left: that process has ended`;
  try {
    await repo.storage.remove({ type: 'locks', name }, ctx.signal);
    ctx.log.warn(`Removed ${left}`);
  } catch (error) {
    const { code, message } = toTarsError(error, `Cannot remove lock ${name}`);
    if (code === 'interrupted') throw error;
    ctx.log.warn(`Ignored ${left}; it stays, because it cannot be removed: ${message}`);
  }
  return true;
}

function conflict(repo: LockableRepository, lock: LockRecord, now: Date): RepositoryLockedError {
  const how = lock.exclusive ? 'locked exclusively' : 'locked';
  return new RepositoryLockedError(
    `The repository ${repo.storage.location} is ${how} by ${describeLock(lock, now)}`,
    {
      hint:
        lockState(lock, now) === 'live'
          ? 'Wait until it has finished. If it crashed, "tars unlock" removes its lock once it is stale.'
          : 'Its holder seems to have ended. Make sure of that, then remove the lock with "tars unlock".',
      context: { hostname: lock.hostname, pid: lock.pid, time: lock.time, exclusive: lock.exclusive },
    },
  );
}
