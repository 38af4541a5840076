import type { OperationContext } from '../ports/context.ts';
import type { RestoreJournal } from '../ports/journal.ts';
import { RestoreRefusedError } from '../model/errors.ts';
import { putBack } from './restore.ts';
import type { RestoreTarget } from './restore-plan.ts';
import { startServices } from './services.ts';

/**
 * Looks for restores that a crash cut off and puts them right: before all swaps were done the previous data
 * comes back, afterwards the restored data stays and its services are started. Says what it did. Called before
 * every verb that works on the live stack.
 * @throws RestoreRefusedError while another process restores this stack
 */
export async function recoverInterrupted(
  target: RestoreTarget,
  journal: RestoreJournal,
  ctx: OperationContext,
): Promise<void> {
  for (const { entry, alive } of await journal.pending()) {
    if (entry.stack !== target.stack) continue;
    if (alive) {
      throw new RestoreRefusedError(
        `Restore ${entry.restoreId} of ${entry.stack} is running in another process`,
        {
          hint: 'Wait for it to end.',
        },
      );
    }
    ctx.log.warn(
      `Restore ${entry.restoreId} of snapshot ${entry.snapshot} was cut off (phase: ${entry.phase})`,
    );
    if (entry.phase === 'swapped') {
      const components = target.components.filter(({ name }) =>
        entry.records.some((r) => r.component === name),
      );
      const stores = components.flatMap(({ service }) => service ?? []);
      await startServices(new Set([...entry.stopped, ...stores]), target.runtime, ctx);
      await journal.write({ ...entry, phase: 'done' });
      ctx.log.warn(
        `Its data is all in place and its services run; compare it with: tars verify ${entry.snapshot}`,
      );
      continue;
    }
    await putBack(entry, target, journal, ctx);
    ctx.log.warn(
      entry.phase === 'staging'
        ? 'Nothing live had changed.'
        : 'The previous data is back in place and its services run.',
    );
  }
}
