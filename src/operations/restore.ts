import type { StatsFs } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CorruptionError, RestoreRefusedError, TarsError, toTarsError } from '../model/errors.ts';
import { hasErrors, type Finding } from '../model/finding.ts';
import type { SwapRecord } from '../model/restore-plan.ts';
import type { Staged } from '../ports/component.ts';
import type { OperationContext } from '../ports/context.ts';
import type { RestoreJournal, RestoreJournalEntry } from '../ports/journal.ts';
import type { SnapshotSource } from '../ports/snapshot-store.ts';
import type { PlannedRestore, RestoreTarget, StackRestorePlan } from './restore-plan.ts';
import { startServices, waitReady } from './services.ts';
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
  readonly findings: readonly Finding[];
  /** Shell lines with which a person goes back; empty when the previous data was discarded. */
  readonly wayBack: readonly string[];
  readonly durationMs: number;
}

interface StagedComponent extends PlannedRestore {
  readonly staged: Staged;
}

/**
 * Carries out `plan`. Until everything is staged and verified nothing live changes; if the swap or the restart
 * fails, the previous data is put back and its services run again before this throws.
 * @throws CorruptionError when an artifact is damaged; nothing was touched
 * @throws TarsError `restore-failed` after the previous state was put back
 */
export async function executeRestore(
  plan: StackRestorePlan,
  source: SnapshotSource,
  target: RestoreTarget,
  journal: RestoreJournal,
  execution: RestoreExecution,
  ctx: OperationContext,
): Promise<RestoreResult> {
  const startedMs = ctx.clock.monotonicMs();
  await requireIntactArtifacts(plan, source, ctx);
  await requireSpace(plan);
  let entry: RestoreJournalEntry = {
    restoreId: plan.restoreId,
    stack: target.stack,
    snapshot: plan.snapshot,
    startedAt: ctx.clock.now().toISOString(),
    phase: 'staging',
    stopped: [],
    offline: [],
    records: [],
  };
  const note = async (change: Partial<RestoreJournalEntry>): Promise<void> => {
    entry = { ...entry, ...change };
    await journal.write(entry);
  };
  await note({});
  const staged = await stageAll(plan, source, target, ctx).catch(async (error: unknown) => {
    await journal.remove(plan.restoreId);
    throw error;
  });
  await swapAll(staged, plan, target, note, ctx).catch(async (error: unknown) => {
    await putBack(entry, target, journal, ctx);
    throw new TarsError(
      'restore-failed',
      `The restore failed and the previous data was put back: ${messageOf(error)}`,
      {
        hint: 'Mend the cause, then run the same restore again.',
        cause: error,
      },
    );
  });
  const findings = execution.skipValidation ? [] : await verifyLive(plan, ctx);
  await startServices(new Set(entry.stopped), target.runtime, ctx);
  const discard = execution.discardPrevious && !hasErrors(findings);
  if (discard) await discardPrevious(staged, entry.records, ctx);
  await note({ phase: 'done' });
  return {
    restoreId: plan.restoreId,
    snapshot: plan.snapshot,
    restored: plan.planned.map(({ component }) => component.name),
    validated: !execution.skipValidation,
    findings,
    wayBack: discard ? [] : entry.records.flatMap(({ wayBack }) => wayBack),
    durationMs: ctx.clock.monotonicMs() - startedMs,
  };
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

/** Adds up what the components need on each file system. @throws TarsError `no-space` */
async function requireSpace(plan: StackRestorePlan): Promise<void> {
  const byFileSystem = new Map<string, { neededBytes: number; freeBytes: number; path: string }>();
  for (const { path, sizeBytes } of plan.planned.flatMap((planned) => planned.plan.space)) {
    const stats = await statfsOfNearest(path);
    const key = `${stats.type}:${stats.blocks}:${stats.bfree}`;
    const entry = byFileSystem.get(key) ?? { neededBytes: 0, freeBytes: stats.bavail * stats.bsize, path };
    byFileSystem.set(key, { ...entry, neededBytes: entry.neededBytes + sizeBytes });
  }
  for (const { neededBytes, freeBytes, path } of byFileSystem.values()) {
    if (neededBytes > freeBytes) {
      throw new TarsError(
        'no-space',
        `The restore needs ${neededBytes} bytes beside ${path}, ${freeBytes} are free`,
        {
          hint: 'Free space there: the previous data stays until you delete it. Nothing was touched.',
        },
      );
    }
  }
}

async function statfsOfNearest(path: string): Promise<StatsFs> {
  try {
    return await statfs(path);
  } catch (error) {
    if (dirname(path) === path) throw error;
    return statfsOfNearest(dirname(path));
  }
}

async function stageAll(
  plan: StackRestorePlan,
  source: SnapshotSource,
  target: RestoreTarget,
  ctx: OperationContext,
): Promise<readonly StagedComponent[]> {
  const running = new Set(plan.planned.flatMap((planned) => planned.plan.requires.running));
  await startServices(running, target.runtime, ctx);
  const staged: StagedComponent[] = [];
  try {
    for (const planned of plan.planned) {
      const { component } = planned;
      if (planned.plan.requires.running.length > 0) await waitReady(component, ctx);
      const task = ctx.progress.start(`staging ${component.name}`);
      try {
        staged.push({ ...planned, staged: await component.stage(planned.plan, source, ctx) });
        task.finish('ok');
      } catch (error) {
        task.finish('failed');
        throw error;
      }
    }
    for (const { component, staged: data } of staged)
      refuseOnFindings(component.name, await data.verify(ctx));
    return staged;
  } catch (error) {
    const fresh = { ...ctx, signal: new AbortController().signal };
    await Promise.allSettled(staged.map(({ staged: data }) => data.discard(fresh)));
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

/** Stops, swaps, starts and waits for health. The journal is always ahead of what happens. */
async function swapAll(
  staged: readonly StagedComponent[],
  plan: StackRestorePlan,
  target: RestoreTarget,
  note: (change: Partial<RestoreJournalEntry>) => Promise<void>,
  ctx: OperationContext,
): Promise<void> {
  await note({
    phase: 'swapping',
    stopped: plan.stop,
    records: staged.map(({ staged: data }) => data.record),
  });
  for (const service of plan.stop) {
    ctx.log.info(`Stopping ${service}`);
    await target.runtime.stop(service, ctx);
  }
  for (const { staged: data } of staged) {
    ctx.signal.throwIfAborted();
    await data.swap(ctx);
  }
  const stores = new Set(
    staged.flatMap(({ component }) => (component.service === undefined ? [] : [component.service])),
  );
  await startServices(stores, target.runtime, ctx);
  for (const { component } of staged) await waitReady(component, ctx);
  await note({ phase: 'swapped' });
}

async function verifyLive(plan: StackRestorePlan, ctx: OperationContext): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const { component } of plan.planned) {
    const captured = plan.manifest.components.find(({ name }) => name === component.name);
    if (captured === undefined) continue;
    try {
      findings.push(...(await component.verify(captured, ctx)));
    } catch (error) {
      const { message } = toTarsError(error, `Cannot verify ${component.name}`);
      findings.push({ severity: 'error', subject: component.name, code: 'verify-failed', message });
    }
  }
  return findings;
}

async function discardPrevious(
  staged: readonly StagedComponent[],
  records: readonly SwapRecord[],
  ctx: OperationContext,
): Promise<void> {
  for (const record of records) {
    const owner = staged.find(({ component }) => component.name === record.component);
    await owner?.component.generation(record).discardPrevious(ctx);
  }
}

/**
 * Puts a restore that did not finish back to the state before it: stops the stores, undoes every swap in reverse,
 * starts what was stopped. Works on a fresh signal, since it also runs after an interruption.
 */
export async function putBack(
  entry: RestoreJournalEntry,
  target: RestoreTarget,
  journal: RestoreJournal,
  ctx: OperationContext,
): Promise<void> {
  const fresh: OperationContext = { ...ctx, signal: new AbortController().signal };
  const services = await target.runtime.discover(fresh);
  const swapped = entry.records.map((record) =>
    target.components.find(({ name }) => name === record.component),
  );
  const stores = new Set(swapped.flatMap((component) => component?.service ?? []));
  const down = new Set([...entry.stopped, ...entry.offline]);
  const mustStop = services.filter(({ name, state }) => down.has(name) && state !== 'stopped');
  for (const { name } of mustStop) await target.runtime.stop(name, fresh);
  for (const record of [...entry.records].reverse()) {
    const component = target.components.find(({ name }) => name === record.component);
    if (component === undefined) {
      throw new TarsError(
        'configuration',
        `The configuration no longer has ${record.component}, whose restore must be undone`,
        {
          hint: `Do by hand: ${record.wayBack.join(' && ')}`,
        },
      );
    }
    await component.generation(record).undo(fresh);
  }
  await startServices(new Set([...entry.stopped, ...stores]), target.runtime, fresh);
  await journal.remove(entry.restoreId);
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
