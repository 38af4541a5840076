import { throwIfAborted } from '../../model/abort.ts';
import { InterruptedError, TarsError, toTarsError } from '../../model/errors.ts';
import { shortId } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotRemoval } from '../../ports/snapshot-shelf.ts';
import { acquireLock } from '../lock/lock.ts';
import type { OpenedRepository } from '../open.ts';

/**
 * Deletes snapshot files, nothing else, under an exclusive lock as `restic forget` does. Their data stays until it is
 * pruned.
 * @throws RepositoryLockedError
 * @throws TarsError `forget-refused` when one that was relied on is gone
 */
export async function removeSnapshots(
  repository: OpenedRepository,
  { remove, relyOn }: SnapshotRemoval,
  ctx: OperationContext,
): Promise<void> {
  const { storage } = repository;
  await using lock = await acquireLock(repository, { exclusive: true }, ctx);
  const present = new Set(await Array.fromAsync(storage.list('snapshots', lock.signal), ({ name }) => name));
  const gone = relyOn.find((id) => !present.has(id));
  if (gone !== undefined) {
    throw new TarsError(
      'forget-refused',
      `Snapshot ${shortId(gone)}, which is to be kept, is missing from ${storage.location}; nothing was removed`,
      { hint: 'Someone else has removed it. Run the command again to make a new plan.' },
    );
  }
  await lock.confirm();
  for (const [done, name] of remove.entries()) {
    try {
      throwIfAborted(lock.signal);
      await storage.remove({ type: 'snapshots', name }, lock.signal);
    } catch (error) {
      throw cutOff(error, done, remove.length);
    }
    ctx.log.debug(`Removed snapshot ${shortId(name)}`);
  }
}

/** Every removal is one file's, so that what was not reached is whole. */
function cutOff(error: unknown, done: number, planned: number): TarsError {
  const cause = toTarsError(error, 'Cannot remove a snapshot');
  const progress = `${done} of ${planned} snapshots were removed`;
  if (cause.code === 'interrupted') return new InterruptedError(`Interrupted after ${progress}`, { cause });
  return new TarsError(cause.code, `${cause.message}; ${progress}`, {
    hint: cause.hint ?? 'The others are unchanged. Run the command again to remove them.',
    cause,
  });
}
