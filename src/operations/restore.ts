import { CorruptionError, InterruptedError, RestoreRefusedError, TarsError } from '../model/errors.ts';
import { hasErrors, type Finding } from '../model/finding.ts';
import type { Staged } from '../ports/component.ts';
import type { OperationContext } from '../ports/context.ts';
import type { RestoreJournal, RestoreJournalEntry } from '../ports/journal.ts';
import type { SnapshotSource } from '../ports/snapshot-store.ts';
import { provision, startJudged } from './provision.ts';
import { putBack } from './put-back.ts';
import { refuseUnfinished } from './recover.ts';
import { planServices, type PlannedRestore, type StackRestorePlan } from './restore-plan.ts';
import type { Run } from './restore-run.ts';
import type { RestoreTarget } from './restore-target.ts';
import { dependentsOf, startOrder, startServices, waitReady } from './services.ts';
import { countingSource } from './counting-source.ts';
import { requireSpace } from './space.ts';
import { compareLive } from './verify.ts';
import { verifyArtifacts } from './verify-artifacts.ts';

export interface RestoreExecution {
  /** Delete the previous data once the restored data is verified. */
  readonly discardPrevious: boolean;
  /** Do not compare the restored content with the snapshot (artifacts are always verified). */
  readonly skipValidation: boolean;
}

export interface RestoreResult {
  readonly restoreId: string;
  readonly snapshot: string;
  readonly restored: readonly string[];
  /** False when the comparison with the snapshot was skipped on request. */
  readonly validated: boolean;
  /** Where the content differs from the snapshot, and services that could not be started again. */
  readonly findings: readonly Finding[];
  /** Services that use what was restored and do not run, as they did not before. */
  readonly notStarted: readonly string[];
  /** Shell lines with which a person goes back; empty when the previous data was discarded. */
  readonly wayBack: readonly ComponentWayBack[];
  /** Where they stand as well; undefined when there are none. */
  readonly wayBackFile: string | undefined;
  readonly durationMs: number;
}

export interface ComponentWayBack {
  readonly component: string;
  readonly lines: readonly string[];
}

interface StagedComponent extends PlannedRestore {
  readonly staged: Staged;
}

/**
 * Carries out `plan`. Until everything is staged and verified nothing live changes; if the swap or the restart
 * fails or is interrupted, the previous data is put back and its services run again before this throws.
 * @throws CorruptionError when an artifact is damaged; nothing was touched
 * @throws RestoreRefusedError while another restore is under way
 * @throws InterruptedError saying which generation is live
 * @throws TarsError `restore-failed` after the previous state was put back, or saying why it could not be
 */
export async function executeRestore(
  plan: StackRestorePlan,
  source: SnapshotSource,
  target: RestoreTarget,
  journal: RestoreJournal,
  execution: RestoreExecution,
  ctx: OperationContext,
): Promise<RestoreResult> {
  requireValidation(execution);
  const startedMs = ctx.clock.monotonicMs();
  using _claim = await journal.claim();
  await refuseUnfinished(target, journal);
  await requireIntactArtifacts(plan, source, ctx);
  await requireSpace(plan.planned.flatMap((planned) => planned.plan.space));
  const run = startRun(plan, source, target, journal, ctx);
  await run.note({});
  const { staged, whole } = await stageAndSwap(run);
  const notStarted = await leftDown(whole);
  const findings = [...(await concludeSwapped(whole, execution))];
  if (execution.discardPrevious && !hasErrors(findings))
    findings.push(...(await discardPrevious(staged, run)));
  const { records } = run.entry();
  return {
    restoreId: plan.restoreId,
    snapshot: plan.snapshot,
    restored: whole.plan.planned.map(({ component }) => component.name),
    validated: !execution.skipValidation,
    findings,
    notStarted,
    wayBack: records.map(({ component, wayBack }) => ({ component, lines: wayBack })),
    wayBackFile: records.length === 0 ? undefined : journal.wayBackFile(plan.restoreId),
    durationMs: ctx.clock.monotonicMs() - startedMs,
  };
}

function requireValidation({ discardPrevious: discard, skipValidation }: RestoreExecution): void {
  if (!discard || !skipValidation) return;
  throw new RestoreRefusedError('The previous data is only discarded once the restored data is compared', {
    hint: 'Leave out --skip-validation or --discard-previous.',
  });
}

function startRun(
  plan: StackRestorePlan,
  source: SnapshotSource,
  target: RestoreTarget,
  journal: RestoreJournal,
  ctx: OperationContext,
): Run {
  let entry: RestoreJournalEntry = {
    restoreId: plan.restoreId,
    stack: target.stack,
    snapshot: plan.snapshot,
    startedAt: ctx.clock.now().toISOString(),
    components: plan.planned.map(({ component }) => component.name),
    phase: 'staging',
    stopped: [],
    offline: [],
    records: [],
  };
  const note = async (change: Partial<RestoreJournalEntry>): Promise<void> => {
    const next = { ...entry, ...change };
    await journal.write(next);
    entry = next;
  };
  return { plan, source, target, journal, ctx, entry: () => entry, note };
}

async function requireIntactArtifacts(
  plan: StackRestorePlan,
  source: SnapshotSource,
  ctx: OperationContext,
): Promise<void> {
  const findings = await verifyArtifacts(source, plan.artifacts, ctx);
  if (findings.length === 0) return;
  const list = findings.map(({ subject, message }) => `${subject}: ${message}`).join('; ');
  throw new CorruptionError(`The snapshot is damaged, nothing was touched: ${list}`, {
    hint: 'Run `tars check --read-data`, restore another snapshot, or choose undamaged components with --component.',
  });
}

/** On any failure everything is as it was before, or the error says what is not. */
async function stageAndSwap(
  run: Run,
): Promise<{ readonly staged: readonly StagedComponent[]; readonly whole: Run }> {
  const { provision: planned } = run.plan;
  try {
    const whole = planned?.plan.needed === true ? { ...run, plan: await provision(run, planned) } : run;
    const staged = await stageAll(whole);
    await swapAll(staged, whole);
    return { staged, whole };
  } catch (error) {
    throw await putBackAfter(error, run);
  }
}

async function stageAll(run: Run): Promise<readonly StagedComponent[]> {
  const { plan, target, ctx } = run;
  const running = new Set(plan.planned.flatMap((planned) => planned.plan.requires.running));
  await startServices(running, target.runtime, ctx);
  const staged: StagedComponent[] = [];
  try {
    for (const planned of plan.planned) {
      if (planned.plan.requires.running.length > 0) await waitReady(planned.component, target.runtime, ctx);
      staged.push({ ...planned, staged: await stageOne(planned, run) });
    }
    for (const { component, staged: data } of staged)
      refuseOnFindings(component.name, await data.verify(ctx));
    return staged;
  } catch (error) {
    const fresh = { ...ctx, signal: new AbortController().signal };
    // What cannot be discarded here is tried again by name, and reported then.
    await Promise.allSettled(staged.map(({ staged: data }) => data.discard(fresh)));
    throw error;
  }
}

async function stageOne({ component, plan: planned }: PlannedRestore, run: Run): Promise<Staged> {
  const { plan, source, ctx } = run;
  const needed = plan.artifacts.filter(({ path }) => planned.artifacts.includes(path));
  const totalBytes = needed.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const task = ctx.progress.start(`staging ${component.name}`, totalBytes);
  try {
    const counted = countingSource(source, (bytes) => task.advance(bytes));
    const staged = await component.stage(planned, counted, ctx);
    task.finish('ok');
    return staged;
  } catch (error) {
    task.finish('failed');
    throw error;
  }
}

function refuseOnFindings(name: string, findings: readonly Finding[]): void {
  const errors = findings.filter(({ severity }) => severity === 'error');
  if (errors.length === 0) return;
  throw new RestoreRefusedError(
    `The staged ${name} is not what was captured, nothing live was touched: ${errors.map(({ message }) => message).join('; ')}`,
  );
}

/** Stops, swaps, starts and waits for health. */
async function swapAll(staged: readonly StagedComponent[], run: Run): Promise<void> {
  const { plan, target, ctx, entry, note } = run;
  ctx.signal.throwIfAborted();
  const services = await planServices(plan.planned, target, ctx);
  const records = [...entry().records, ...staged.map(({ staged: data }) => data.record)];
  await note({ stopped: services.stop, offline: services.offline, records });
  for (const service of services.stop) {
    ctx.log.info(`Stopping ${service}`);
    await target.runtime.stop(service, ctx);
  }
  ctx.signal.throwIfAborted();
  await note({ phase: 'swapping' });
  for (const { staged: data } of staged) {
    ctx.signal.throwIfAborted();
    await data.swap(ctx);
  }
  await requireStillDown(services.offline, run);
  const stores = new Set(staged.flatMap(({ component }) => component.service ?? []));
  await startServices(stores, target.runtime, ctx);
  for (const { component } of staged) await waitReady(component, target.runtime, ctx);
  // From now on what was created is started like what was stopped, whoever does it.
  const fresh = plan.provision?.plan.start ?? [];
  await note({ phase: 'swapped', stopped: [...new Set([...services.stop, ...fresh])] });
}

/** A server that a supervisor started meanwhile has the previous files open, and would write over the restored ones. */
async function requireStillDown(offline: readonly string[], { target, ctx }: Run): Promise<void> {
  const services = await target.runtime.discover(ctx);
  const up = services.find(({ name, state }) => offline.includes(name) && state !== 'stopped');
  if (up === undefined) return;
  throw new TarsError(
    'restore-failed',
    `${up.name} was started by something else while its data was exchanged`,
    {
      hint: 'Keep whatever supervises it from starting it, then run the same restore again.',
    },
  );
}

/** Puts everything back and returns the error to throw, which says how things stand now. */
async function putBackAfter(error: unknown, { entry, target, journal, ctx }: Run): Promise<unknown> {
  const { phase, stopped } = entry();
  const reason = ctx.signal.aborted ? 'it was interrupted' : messageOf(error);
  let left: readonly string[];
  try {
    // A note that failed may have been written all the same: half undone must never be taken for swapped.
    if (phase === 'swapping') await journal.write(entry());
    left = await putBack(entry(), target, journal, ctx);
  } catch (failure) {
    const hint = failure instanceof TarsError ? failure.hint : undefined;
    return new TarsError(
      'restore-failed',
      `The restore failed (${reason}) and could not be undone: ${messageOf(failure)}`,
      hint === undefined ? { cause: failure } : { hint, cause: failure },
    );
  }
  const { created } = entry();
  const untouched = phase === 'staging' && stopped.length === 0 && created === undefined;
  const data = phase === 'staging' ? 'no live data had changed' : 'the previous data was put back';
  const state = created === undefined ? data : `${data}, and what it had created was removed`;
  if (left.length > 0) {
    return new TarsError(
      'restore-failed',
      `The restore failed (${reason}); ${state}, but: ${left.join('; ')}`,
      {
        hint: 'See to that, then run the same restore again.',
        cause: error,
      },
    );
  }
  if (ctx.signal.aborted) return new InterruptedError(`Interrupted; ${state}`, { cause: error });
  if (untouched) return error;
  return new TarsError('restore-failed', `The restore failed, ${state}: ${reason}`, {
    hint: hintOf(error) ?? 'Mend the cause, then run the same restore again.',
    cause: error,
  });
}

/**
 * The restored data is in place, and stays: compares it, and starts what was stopped, whatever the comparison says or
 * whoever interrupts it.
 */
async function concludeSwapped(run: Run, { skipValidation }: RestoreExecution): Promise<readonly Finding[]> {
  const { plan, ctx, entry, note } = run;
  const findings: Finding[] = [];
  let interruption: unknown;
  try {
    if (!skipValidation) findings.push(...(await compareRestored(plan, ctx)));
  } catch (error) {
    interruption = error;
  }
  findings.push(...(await startJudged(entry().stopped, run)));
  await note({ phase: 'done' }).catch((error: unknown) => {
    // The next run finds all in place, and says so once more.
    const message = `The end of the restore is not recorded: ${messageOf(error)}`;
    findings.push({ severity: 'warning', subject: 'journal', code: 'journal-not-written', message });
  });
  if (interruption === undefined) return findings;
  for (const { subject, message } of findings) ctx.log.warn(`${subject}: ${message}`);
  throw new InterruptedError('Interrupted; the restored data is in place, but was not compared to the end', {
    hint: `Compare it with: tars verify ${plan.snapshot.slice(0, 8)}`,
    cause: interruption,
  });
}

/** After a disaster what used the stores is often down, and only what ran before is started again. */
async function leftDown({ plan, target, ctx, entry }: Run): Promise<readonly string[]> {
  const { stopped } = entry();
  const stores = new Set(plan.planned.flatMap(({ component: { service } }) => service ?? []));
  try {
    const services = startOrder(await target.runtime.discover(ctx));
    const dependents = dependentsOf(stores, services);
    return services
      .filter(({ name, state, writer }) => state === 'stopped' && (writer || dependents.has(name)))
      .map(({ name }) => name)
      .filter((name) => !stopped.includes(name) && !stores.has(name));
  } catch {
    // The restore is done; that this could not be asked takes nothing from it.
    return [];
  }
}

function compareRestored({ planned, manifest }: StackRestorePlan, ctx: OperationContext) {
  const pairs = planned.flatMap(({ component }) => {
    const captured = manifest.components.find(({ name }) => name === component.name);
    return captured === undefined ? [] : [{ component, captured }];
  });
  return compareLive(pairs, ctx);
}

/** The restore has succeeded by now: what cannot be deleted is a warning. */
async function discardPrevious(
  staged: readonly StagedComponent[],
  { note, ctx }: Run,
): Promise<readonly Finding[]> {
  const kept = (subject: string, error: unknown): Finding => {
    const message = `Its previous data could not be deleted: ${messageOf(error)}`;
    return { severity: 'warning', subject, code: 'previous-kept', message };
  };
  try {
    // Nobody may go back to what is half deleted.
    await note({ records: [] });
  } catch (error) {
    return staged.map(({ component }) => kept(component.name, error));
  }
  const findings: Finding[] = [];
  for (const { component, staged: data } of staged) {
    try {
      await component.generation(data.record).discardPrevious(ctx);
    } catch (error) {
      findings.push(kept(component.name, error));
    }
  }
  return findings;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
const hintOf = (error: unknown): string | undefined => (error instanceof TarsError ? error.hint : undefined);
