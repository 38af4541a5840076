import { CorruptionError, RestoreRefusedError } from '../../model/errors.ts';
import { hasErrors, type Finding } from '../../model/finding.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RestoreJournal, RestoreJournalEntry } from '../../ports/journal.ts';
import type { StopAndStart } from '../../ports/runtime.ts';
import type { SnapshotSource } from '../../ports/snapshot-store.ts';
import { provision } from './provision.ts';
import { refuseUnfinished } from './recover.ts';
import { concludeSwapped, discardPrevious, servicesLeftStopped } from './conclusion.ts';
import { putBackAfter } from './failure.ts';
import { artifactsNeeded, type StackRestorePlan } from './plan.ts';
import type { Run } from './run.ts';
import { stageAll, type AcceptMissing, type StagedStack } from './stage.ts';
import { swapAll } from './swap.ts';
import type { RestoreTarget } from './target.ts';
import { requireSpace } from '../space.ts';
import { verifyArtifacts } from '../verify/artifacts.ts';

/** What the operator asks for beside the plan. */
export interface RestoreExecution {
  /** Delete the previous data once the restored data is verified. */
  readonly discardPrevious: boolean;
  /** Do not compare the restored content with the snapshot (artifacts are always verified). */
  readonly skipValidation: boolean;
  /** Whether to restore without parts of the snapshot that a store refused. Absent: no. */
  readonly acceptMissing?: AcceptMissing;
}

/** What a restore did; it is in place. */
export interface RestoreResult {
  readonly restoreId: string;
  readonly snapshot: string;
  readonly restored: readonly string[];
  /** False when the comparison with the snapshot was skipped on request. */
  readonly validated: boolean;
  /** Parts of the snapshot that a store refused; the operator accepted the restore without them. */
  readonly missing: readonly Finding[];
  /** Where else the content differs from the snapshot, and services that could not be started again. */
  readonly findings: readonly Finding[];
  /** Services that use what was restored and do not run, as they did not before. */
  readonly notStarted: readonly string[];
  /** Shell lines with which a person goes back; empty when the previous data was discarded. */
  readonly wayBack: readonly ComponentWayBack[];
  /** Shell lines before and after them, where the runtime has some. */
  readonly byHand?: StopAndStart;
  /** Where they stand as well; undefined when there are none. */
  readonly wayBackFile: string | undefined;
  readonly durationMs: number;
}

/** How a person brings the previous data of one component back without tars. */
interface ComponentWayBack {
  readonly component: string;
  readonly lines: readonly string[];
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
  await using _claim = await journal.claim();
  await refuseUnfinished(target, journal);
  await requireIntactArtifacts(plan, source, ctx);
  await requireSpace(plan.planned.flatMap((planned) => planned.plan.space));
  const run = startRun(plan, source, target, journal, ctx);
  await run.note({});
  const { staged, missing, noted, whole } = await stageAndSwap(run, execution);
  const notStarted = await servicesLeftStopped(whole);
  const known = { missing, noted };
  const findings = [...(await concludeSwapped(whole, execution, known))];
  if (execution.discardPrevious && missing.length === 0 && !hasErrors(findings))
    findings.push(...(await discardPrevious(staged, run)));
  const { records, byHand } = run.entry();
  return {
    restoreId: plan.restoreId,
    snapshot: plan.snapshot,
    restored: whole.plan.planned.map(({ component }) => component.name),
    validated: !execution.skipValidation,
    missing,
    findings,
    notStarted,
    wayBack: records.map(({ component, wayBack }) => ({ component, lines: wayBack })),
    ...(records.length === 0 || byHand === undefined ? {} : { byHand }),
    wayBackFile: records.length === 0 ? undefined : journal.wayBackFile(plan.restoreId),
    durationMs: ctx.clock.monotonicMs() - startedMs,
  };
}

function requireValidation({ discardPrevious: discard, skipValidation }: RestoreExecution): void {
  if (!discard || !skipValidation) return;
  throw new RestoreRefusedError(
    'The previous data is discarded only after the restored data has been compared',
    {
      hint: 'Omit --skip-validation or --discard-previous.',
    },
  );
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
    origin: target.origin,
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
  const findings = await verifyArtifacts(
    source,
    artifactsNeeded(plan, source, ctx.signal),
    plan.artifacts.sizeBytes,
    ctx,
  );
  if (findings.length === 0) return;
  const list = findings.map(({ subject, message }) => `${subject}: ${message}`).join('; ');
  throw new CorruptionError(`The snapshot is damaged; nothing was changed: ${list}`, {
    hint: 'Run `tars check --read-data`, restore another snapshot, or choose undamaged components with --component.',
  });
}

/** On any failure everything is as it was before, or the error says what is not. */
async function stageAndSwap(
  run: Run,
  { acceptMissing }: RestoreExecution,
): Promise<StagedStack & { readonly whole: Run }> {
  const { provision: planned } = run.plan;
  try {
    const whole = planned?.plan.needed === true ? { ...run, plan: await provision(run, planned) } : run;
    const stack = await stageAll(whole, acceptMissing ?? (() => Promise.resolve(false)));
    await swapAll(stack.staged, whole);
    return { ...stack, whole };
  } catch (error) {
    throw await putBackAfter(error, run);
  }
}
