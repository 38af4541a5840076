import { messageOf, PreviousDataGoneError, TarsError, toTarsError } from '../../model/errors.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';
import type { Component } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RestoreJournal, RestoreJournalEntry } from '../../ports/journal.ts';
import type { RestoreTarget } from './target.ts';
import { startAgain, startServices, stopServices, waitReady } from '../services.ts';

/**
 * Puts a restore that did not finish back to the state before it: undoes every swap in reverse with the stores down
 * that have to be, starts what ran before, and removes what was staged. Works on a fresh signal, since it also runs
 * after an interruption. Can be repeated from whatever state it was left in.
 * @returns what is left for the operator to see to, in sentences; the live data is the previous one
 * @throws TarsError when live data could not be put back: the journal keeps the restore, services stay as they are
 */
export async function putBack(
  given: RestoreJournalEntry,
  target: RestoreTarget,
  journal: RestoreJournal,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const fresh: OperationContext = { ...ctx, signal: new AbortController().signal };
  const entry = withoutNewStores(given, target);
  let lost: readonly LostComponent[] = [];
  if (entry.phase !== 'staging') {
    lost = await undoSwaps(entry, target, journal, fresh);
    // From here on the data is live, and must never be taken for what was swapped in.
    await journal.write({ ...entry, phase: 'staging', records: [] });
  }
  // Before anything is tidied up: what was staged in a server can only be removed through it.
  const down = await startPrevious(entry, target, fresh);
  const staged = await removeStaged(withoutComponents(entry, lost), target, fresh);
  const created = await removeCreated(entry, target, fresh);
  const left = [...staged, ...created];
  if (left.length === 0) await journal.remove(entry.restoreId);
  else {
    // What could not be removed is tried again by the next run. Data that was staged is in the way of no other restore.
    const kept: RestoreJournalEntry = { ...entry, phase: 'staging', records: [], stopped: [], offline: [] };
    await journal.write(created.length > 0 ? kept : { ...kept, creating: undefined, created: undefined });
  }
  return [...lost.map(({ sentence }) => sentence), ...left, ...down];
}

/** A component whose previous data does not exist any more. */
interface LostComponent {
  readonly component: string;
  /** For the operator. */
  readonly sentence: string;
}

const withoutComponents = (
  entry: RestoreJournalEntry,
  lost: readonly LostComponent[],
): RestoreJournalEntry => ({
  ...entry,
  components: entry.components.filter((name) => !lost.some(({ component }) => component === name)),
});

/** Leaves out what is in nothing but new volumes: it goes with them, and need not be undone piece by piece. */
function withoutNewStores(entry: RestoreJournalEntry, { components }: RestoreTarget): RestoreJournalEntry {
  const fresh = (entry.created?.containers ?? []).filter(({ empty }) => empty).map(({ service }) => service);
  const gone = components.filter(({ service }) => service !== undefined && fresh.includes(service));
  const stays = (component: string): boolean => !gone.some(({ name }) => name === component);
  return {
    ...entry,
    components: entry.components.filter(stays),
    records: entry.records.filter(({ component }) => stays(component)),
  };
}

async function removeCreated(
  { creating, created }: RestoreJournalEntry,
  { provisioner }: RestoreTarget,
  ctx: OperationContext,
): Promise<readonly string[]> {
  if (created === undefined && creating === undefined) return [];
  if (provisioner === undefined)
    return ['The containers that it created stay, because tars.yaml no longer has a docker: section'];
  if (created !== undefined) return provisioner.remove(created, ctx);
  return creating === undefined ? [] : provisioner.removeSince(creating, ctx);
}

/**
 * Throws only after every swap was tried, so that one that cannot be undone keeps no other from being.
 * @returns the components of which nothing is left to put back
 */
async function undoSwaps(
  entry: RestoreJournalEntry,
  target: RestoreTarget,
  journal: RestoreJournal,
  ctx: OperationContext,
): Promise<readonly LostComponent[]> {
  const undos = entry.records.map((record) => ({ record, component: requireOwner(record, target) }));
  await stopServices(new Set([...entry.stopped, ...entry.offline]), target.runtime, ctx);
  const failures: TarsError[] = [];
  const lost: LostComponent[] = [];
  const failed: string[] = [];
  let records = entry.records;
  for (const { record, component } of undos.reverse()) {
    try {
      const sentence = await undoOne(record, component, entry, target, ctx);
      if (sentence !== undefined) lost.push({ component: component.name, sentence });
      // Never undone twice: until the others are, an operator may have put something new in its place.
      records = records.filter((other) => other !== record);
      await journal.write({ ...entry, records });
    } catch (error) {
      failures.push(toTarsError(error, `Cannot undo the restore of ${record.component}`));
      failed.push(`${record.component}: ${messageOf(error)}`);
    }
  }
  if (failures.length === 0) return lost;
  const hints = [...new Set(failures.flatMap(({ hint }) => hint ?? []))];
  const first = hints.length === 0 ? 'Fix the cause, then' : `${hints.join(' ')} Then`;
  throw new TarsError('restore-failed', `Cannot put the previous data back: ${failed.join('; ')}`, {
    hint: `${first} run tars verify: it tries again and starts the services.`,
  });
}

/** @returns what is lost, in a sentence, where there is nothing to put back */
async function undoOne(
  record: SwapRecord,
  component: Component,
  entry: RestoreJournalEntry,
  target: RestoreTarget,
  ctx: OperationContext,
): Promise<string | undefined> {
  const isLost = (why: string): string =>
    `The data of ${component.name} from before restore ${entry.restoreId} is lost: ${why}. Restore a snapshot`;
  try {
    const gone = await goneMounts(component, entry, target, ctx);
    if (gone.length > 0) return isLost(`${gone.join(', ')} no longer exists, and neither does its container`);
    await requireServer(component, entry, target, ctx);
    await component.generation(record).undo(ctx);
    return undefined;
  } catch (error) {
    if (error instanceof PreviousDataGoneError) return isLost(error.message);
    throw error;
  }
}

/** Where its data was, when neither its service nor any of that exists. */
async function goneMounts(
  { name, service }: Component,
  entry: RestoreJournalEntry,
  { runtime }: RestoreTarget,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const mounts = (entry.mounts ?? []).filter(({ component }) => component === name);
  if (mounts.length === 0 || runtime.areGone === undefined) return [];
  const there = (await runtime.discover(ctx)).find((found) => found.name === service);
  if (there !== undefined && there.missing !== true) return [];
  return (await runtime.areGone(mounts, ctx))
    ? mounts.map(({ type, source }) => `the ${type} ${source}`)
    : [];
}

/** Where data is exchanged by its own running server, that may have gone down with the machine. */
async function requireServer(
  component: Component,
  entry: RestoreJournalEntry,
  target: RestoreTarget,
  ctx: OperationContext,
): Promise<void> {
  const { service } = component;
  if (service === undefined || entry.offline.includes(service)) return;
  await startServices(new Set([service]), target.runtime, ctx);
  await waitReady(component, target.runtime, ctx);
}

function requireOwner(record: SwapRecord, target: RestoreTarget): Component {
  const component = target.components.find(({ name }) => name === record.component);
  if (component !== undefined) return component;
  throw new TarsError(
    'configuration',
    `The configuration no longer has ${record.component}, whose restore must be undone`,
    { hint: `Add it to tars.yaml again, or run by hand: ${record.wayBack.join(' && ')}` },
  );
}

/** Nothing live is touched here, so what fails is only reported. */
async function removeStaged(
  entry: RestoreJournalEntry,
  target: RestoreTarget,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const left: string[] = [];
  for (const component of target.components.filter(({ name }) => entry.components.includes(name))) {
    try {
      await removeStagedOf(component, entry, target, ctx);
    } catch (error) {
      left.push(
        `The data that restore ${entry.restoreId} staged for ${component.name} could not be removed: ${messageOf(error)}`,
      );
    }
  }
  return left;
}

async function isMissing(
  { service }: Component,
  { runtime }: RestoreTarget,
  ctx: OperationContext,
): Promise<boolean> {
  if (service === undefined) return false;
  const services = await runtime.discover(ctx).catch(() => undefined);
  return services?.every(({ name, missing }) => name !== service || missing === true) === true;
}

/** It was staged while its server ran, if that was needed; the server may have gone down with the machine. */
async function removeStagedOf(
  component: Component,
  entry: RestoreJournalEntry,
  target: RestoreTarget,
  ctx: OperationContext,
): Promise<void> {
  try {
    await component.removeStaged(entry.restoreId, ctx);
  } catch (error) {
    if (toTarsError(error, component.name).code !== 'service-unavailable') throw error;
    // Without its container there is no way to it. If it comes back, doctor finds what was staged.
    if (await isMissing(component, target, ctx)) return;
    await requireServer(component, entry, target, ctx);
    await component.removeStaged(entry.restoreId, ctx);
  }
}

/** Starts what the restore stopped, and waits until the stores among it answer. */
async function startPrevious(
  { stopped }: RestoreJournalEntry,
  { components, runtime }: RestoreTarget,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const failures = await startAgain(stopped, runtime, ctx);
  const left = failures.map(({ service, message }) => `${service} does not run: ${message}`);
  for (const component of components) {
    const { name, service } = component;
    if (service === undefined || !stopped.includes(service)) continue;
    if (failures.some((failure) => failure.service === service)) continue;
    await waitReady(component, runtime, ctx).catch((error: unknown) => {
      left.push(`${name} does not answer: ${messageOf(error)}`);
    });
  }
  return left;
}
