import { RestoreRefusedError } from '../model/errors.ts';
import type { OperationContext } from '../ports/context.ts';
import type { RestoreJournal, RestoreJournalEntry } from '../ports/journal.ts';
import { putBack } from './put-back.ts';
import type { RestoreTarget } from './restore-target.ts';
import { startAgain } from './services.ts';

/**
 * Looks for restores that a crash cut off and puts them right: before all swaps were done the previous data
 * comes back, afterwards the restored data stays and its services are started. Says what it did. Called before
 * every verb that works on the live stack.
 * @throws RestoreRefusedError while another process restores this stack
 * @throws TarsError `restore-failed` when the previous data could not be put back
 */
export async function recoverInterrupted(
  target: RestoreTarget,
  journal: RestoreJournal,
  ctx: OperationContext,
): Promise<void> {
  await sayBeside(target, journal, ctx);
  if ((await pendingOf(target, journal)).length === 0) return;
  using _claim = await journal.claim();
  // Read again: another process may have put them right while we waited for nothing.
  for (const entry of await pendingOf(target, journal)) await recover(entry, target, journal, ctx);
}

/** A restore into another project was nobody's live stack; only one into that project again can put it right. */
async function sayBeside(
  { stack }: RestoreTarget,
  journal: RestoreJournal,
  { log }: OperationContext,
): Promise<void> {
  for (const { entry, alive } of await journal.pending()) {
    if (alive || !entry.stack.startsWith(`${stack}@`)) continue;
    const project = entry.stack.slice(stack.length + 1);
    log.warn(
      `Restore ${entry.restoreId} into the project ${project} was cut off; tars restore --project ${project} puts it right`,
    );
  }
}

/** @throws RestoreRefusedError when one of them is still under way */
async function pendingOf(
  target: RestoreTarget,
  journal: RestoreJournal,
): Promise<readonly RestoreJournalEntry[]> {
  const pending = (await journal.pending()).filter(({ entry }) => entry.stack === target.stack);
  const running = pending.find(({ alive }) => alive);
  if (running === undefined) return pending.map(({ entry }) => entry);
  throw new RestoreRefusedError(
    `Restore ${running.entry.restoreId} of ${target.stack} is running in another process`,
    { hint: 'Wait for it to end.' },
  );
}

/**
 * What is only left to be tidied up is in nobody's way.
 * @throws RestoreRefusedError when a restore of this stack is under way or was cut off
 */
export async function refuseUnfinished(target: RestoreTarget, journal: RestoreJournal): Promise<void> {
  const cutOff = (await pendingOf(target, journal)).find(
    ({ phase, stopped, creating, created }) =>
      phase !== 'staging' || stopped.length > 0 || creating !== undefined || created !== undefined,
  );
  if (cutOff === undefined) return;
  throw new RestoreRefusedError(`Restore ${cutOff.restoreId} of ${target.stack} was cut off`, {
    hint: 'Run tars verify, which puts it right, then run this again.',
  });
}

async function recover(
  entry: RestoreJournalEntry,
  target: RestoreTarget,
  journal: RestoreJournal,
  ctx: OperationContext,
): Promise<void> {
  const { log } = ctx;
  const phase = entry.creating === undefined ? entry.phase : 'creating containers';
  log.warn(`Restore ${entry.restoreId} of snapshot ${entry.snapshot} was cut off (phase: ${phase})`);
  if (entry.phase === 'swapped') return goOn(entry, target, journal, ctx);
  const left = await putBack(entry, target, journal, ctx);
  for (const sentence of left) log.warn(sentence);
  const state = entry.phase === 'staging' ? 'No live data had changed' : 'The previous data is back in place';
  log.warn(left.length === 0 ? `${state}; the services it had stopped run.` : `${state}.`);
}

async function goOn(
  entry: RestoreJournalEntry,
  target: RestoreTarget,
  journal: RestoreJournal,
  ctx: OperationContext,
): Promise<void> {
  const restored = target.components.filter(({ name }) => entry.records.some((r) => r.component === name));
  const stores = restored.flatMap(({ service }) => service ?? []);
  const failures = await startAgain([...entry.stopped, ...stores], target.runtime, ctx);
  await journal.write({ ...entry, phase: 'done' });
  for (const { service, message } of failures) ctx.log.warn(`${service} does not run: ${message}`);
  const services = failures.length === 0 ? ' and its services run' : '';
  ctx.log.warn(
    `Its data is all in place${services}; compare it with: tars verify ${entry.snapshot.slice(0, 8)}`,
  );
}
