import { toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { LockHolder } from '../../ports/snapshot-store.ts';
import { loadLock, type LockableRepository } from './lock-file.ts';
import { describeLock, lockState } from './lock-record.ts';

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
      const now = ctx.clock.now();
      const { exclusive } = lock;
      holders.push({ who: describeLock(lock, now), exclusive, state: lockState(lock, now) });
    } catch (error) {
      const { code, message } = toTarsError(error, `Cannot read lock ${name}`);
      if (code === 'interrupted') throw error;
      // It may have been removed since it was listed.
      if (code !== 'storage-not-found') holders.push({ who: message, exclusive: true, state: 'unreadable' });
    }
  }
  return holders;
}

async function isRemovable(repo: LockableRepository, name: string, ctx: OperationContext): Promise<boolean> {
  try {
    return lockState(await loadLock(repo, name, ctx.signal), ctx.clock.now()) !== 'live';
  } catch (error) {
    const known = toTarsError(error, `Cannot read lock ${name}`);
    if (known.code === 'interrupted') throw known;
    if (known.code !== 'storage-not-found') {
      ctx.log.warn(`${known.message}. The lock stays; "tars unlock --all" removes it`);
    }
    return false;
  }
}
