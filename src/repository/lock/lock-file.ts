import { toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { decodeLock, encodeOwnLock, type LockRecord } from './lock-record.ts';
import type { OpenedRepository } from '../open.ts';

/** What locks need of an opened repository. */
export type LockableRepository = Pick<OpenedRepository, 'storage' | 'loadUnpacked' | 'saveUnpacked'>;

/** How long after writing a lock others are looked for: `internal/repository/lock.go` of restic. */
export const settleMs = 200;
const removalTimeoutMs = 60_000;

/** @throws CorruptionError when it is no lock */
export async function loadLock(
  repo: LockableRepository,
  name: string,
  signal: AbortSignal,
): Promise<LockRecord> {
  return decodeLock(await repo.loadUnpacked('locks', name, signal), name);
}

/** Writes a new lock of this process. @returns its name */
export function saveLock(
  repo: LockableRepository,
  exclusive: boolean,
  ctx: OperationContext,
): Promise<string> {
  return repo.saveUnpacked('locks', encodeOwnLock(exclusive, ctx.clock.now()), ctx.signal);
}

/**
 * Removes a lock of this process; one that cannot be removed is a warning, as it grows stale by itself. Uses a signal of
 * its own: the lock must go even when the operation was interrupted.
 */
export async function removeOwnLock(
  repo: LockableRepository,
  name: string,
  ctx: OperationContext,
): Promise<void> {
  try {
    await repo.storage.remove({ type: 'locks', name }, AbortSignal.timeout(removalTimeoutMs));
  } catch (error) {
    ctx.log.warn(
      `${toTarsError(error, `Cannot remove lock ${name}`).message}; "tars unlock" removes it later`,
    );
  }
}
