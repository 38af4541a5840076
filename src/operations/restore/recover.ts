import { RestoreRefusedError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RestoreJournal, RestoreJournalEntry, RestoreOrigin } from '../../ports/journal.ts';
import { putBack } from './put-back.ts';
import type { RestoreTarget } from './target.ts';
import { startAgain } from '../services.ts';

/**
 * Looks for restores that a crash cut off and puts them right: before all swaps were done the previous data
 * comes back, afterwards the restored data stays and its services are started. Says what it did. Called before
 * every verb that works on the live stack.
 * @throws RestoreRefusedError while another process restores, or puts a restore right
 * @throws TarsError `restore-failed` when the previous data could not be put back
 */
export async function recoverInterrupted(
  target: RestoreTarget,
  journal: RestoreJournal,
  ctx: OperationContext,
): Promise<void> {
  await sayBeside(target, journal, ctx);
  if ((await pendingOf(target, journal)).length === 0) return;
  await using _claim = await journal.claim();
  // Read again: another process may have put them right before we claimed the journal.
  for (const entry of await pendingOf(target, journal)) await recover(entry, target, journal, ctx);
}

/**
 * Whether a restore is one of this target: of the same stack on the same host, and by the same repository or the same
 * `tars.yaml`. Two projects may have stacks of one name and one state directory.
 */
export function isRestoreOf(
  { stack, origin }: Pick<RestoreJournalEntry, 'stack' | 'origin'>,
  own: Pick<RestoreTarget, 'stack' | 'origin'>,
): boolean {
  return stack === own.stack && isSameOrigin(origin, own.origin);
}

function isSameOrigin(origin: RestoreOrigin | undefined, own: RestoreOrigin | undefined): boolean {
  if (origin === undefined || own === undefined) return true;
  const isSameRepository = origin.repository !== undefined && origin.repository === own.repository;
  return origin.host === own.host && (isSameRepository || origin.settings === own.settings);
}

/**
 * What is left of others: a restore into another project was nobody's live stack, and only one into that project again
 * can put it right. One of another stack with this name is put right by its own `tars.yaml`.
 */
async function sayBeside(
  target: RestoreTarget,
  journal: RestoreJournal,
  { log }: OperationContext,
): Promise<void> {
  for (const { entry, alive } of await journal.pending()) {
    if (alive) continue;
    const beside = describeBeside(entry, target);
    if (beside !== undefined) log.warn(`${beside.found}. ${beside.hint}`);
  }
}

/** A cut-off restore that is not this target's and has its stack's name: what it is, and what puts it right. */
export function describeBeside(
  { restoreId, stack, origin }: RestoreJournalEntry,
  own: Pick<RestoreTarget, 'stack' | 'origin'>,
): { readonly found: string; readonly hint: string } | undefined {
  const isInto = stack.startsWith(`${own.stack}@`);
  if (stack !== own.stack && !isInto) return undefined;
  if (!isSameOrigin(origin, own.origin)) {
    const { host = '', settings = '' } = origin ?? {};
    return {
      found: `Restore ${restoreId} of another stack named ${own.stack} was interrupted: it belongs to ${settings} on ${host}`,
      hint:
        host === own.origin?.host
          ? `Run tars --config ${settings} verify, which recovers it.`
          : `If this machine was called ${host}, set host: ${host} in tars.yaml and run tars verify.`,
    };
  }
  if (!isInto) return undefined;
  const project = stack.slice(own.stack.length + 1);
  return {
    found: `Restore ${restoreId} into the project ${project} was interrupted`,
    hint: `Run tars restore --project ${project}, which recovers it.`,
  };
}

/** Whether one of them is under way is told by the journal's claim, not by the process that wrote the entry. */
async function pendingOf(
  target: RestoreTarget,
  journal: RestoreJournal,
): Promise<readonly RestoreJournalEntry[]> {
  return (await journal.pending()).map(({ entry }) => entry).filter((entry) => isRestoreOf(entry, target));
}

/**
 * What is only left to be tidied up is in nobody's way. Asked by whoever holds the journal's claim.
 * @throws RestoreRefusedError when a restore of this stack was cut off
 */
export async function refuseUnfinished(target: RestoreTarget, journal: RestoreJournal): Promise<void> {
  const cutOff = (await pendingOf(target, journal)).find(
    ({ phase, stopped, creating, created }) =>
      phase !== 'staging' || stopped.length > 0 || creating !== undefined || created !== undefined,
  );
  if (cutOff === undefined) return;
  throw new RestoreRefusedError(`Restore ${cutOff.restoreId} of ${target.stack} was interrupted`, {
    hint: 'Run tars verify, which recovers it, then run this again.',
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
  log.warn(`Restore ${entry.restoreId} of snapshot ${entry.snapshot} was interrupted (phase: ${phase})`);
  if (entry.phase === 'swapped') return finishSwapped(entry, target, journal, ctx);
  const left = await putBack(entry, target, journal, ctx);
  for (const sentence of left) log.warn(sentence);
  const back =
    left.length === 0
      ? 'The previous data is back in place'
      : 'The previous data is back in place, as far as it still exists';
  const state = entry.phase === 'staging' ? 'No live data had changed' : back;
  log.warn(left.length === 0 ? `${state}, and the services that it had stopped run again.` : `${state}.`);
}

async function finishSwapped(
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
    `All restored data is in place${services}; compare it with: tars verify ${entry.snapshot.slice(0, 8)}`,
  );
}
