import { throwIfAborted } from '../../model/abort.ts';
import { RestoreRefusedError, TarsError, toTarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { Staged } from '../../ports/component.ts';
import { countingSource } from '../backup/counting-source.ts';
import type { PlannedComponent } from './plan.ts';
import type { Run } from './run.ts';
import { startServices, waitReady } from '../services.ts';

/** A component whose data lies beside the live one. */
export interface StagedComponent extends PlannedComponent {
  readonly staged: Staged;
}

/** What {@link stageAll} made, and what it lacks with the operator's consent. */
export interface StagedStack {
  readonly staged: readonly StagedComponent[];
  /** Parts of the snapshot that a store refused, and what follows from it. */
  readonly missing: readonly Finding[];
  /** Differences that are no errors, so close after the restore. */
  readonly noted: readonly Finding[];
}

/** Asks whether to restore without these parts of the snapshot. */
export type AcceptMissing = (missing: readonly Finding[]) => Promise<boolean>;

/**
 * Stages and verifies every component; nothing live changes.
 * @throws RestoreRefusedError when what was staged is not what was captured, or lacks parts that `accept` does not
 *   let go
 */
export async function stageAll(run: Run, accept: AcceptMissing): Promise<StagedStack> {
  const { plan, target, ctx } = run;
  const running = new Set(plan.planned.flatMap((planned) => planned.plan.requires.running));
  await startServices(running, target.runtime, ctx);
  const staged: StagedComponent[] = [];
  try {
    for (const planned of plan.planned) {
      if (planned.plan.requires.running.length > 0) await waitReady(planned.component, target.runtime, ctx);
      staged.push({ ...planned, staged: await stageOne(planned, run) });
    }
    const findings: Finding[] = [];
    for (const { component, staged: data } of staged) {
      const own = await data.verify(ctx);
      refuseOnFindings(component.name, own);
      findings.push(...own);
    }
    const missing = findings.filter(isMissing);
    if (missing.length > 0 && !(await accept(missing))) throw notAccepted(missing);
    return { staged, missing, noted: findings.filter(({ severity }) => severity !== 'error') };
  } catch (error) {
    const fresh = { ...ctx, signal: new AbortController().signal };
    // What cannot be discarded here is tried again by name, and reported then.
    await Promise.allSettled(staged.map(({ staged: data }) => data.discard(fresh)));
    throw error;
  }
}

async function stageOne(planned: PlannedComponent, run: Run): Promise<Staged> {
  const { source, ctx } = run;
  const task = ctx.progress.start(`staging ${planned.component.name}`, planned.sizeBytes);
  try {
    const counted = countingSource(source, (bytes) => task.advance(bytes));
    const staged = await planned.stage(counted, ctx);
    task.finish('ok');
    return staged;
  } catch (error) {
    task.finish('failed');
    throwIfAborted(ctx.signal, error);
    throw ofComponent(planned.component.name, error);
  }
}

/** What failed deep inside, such as a checksum, is about a store that the operator knows by its name. */
function ofComponent(name: string, error: unknown): TarsError {
  const { code, message, hint } = toTarsError(error, 'It cannot be staged');
  const what = `Cannot restore ${name}, and nothing live was changed: ${message}`;
  const advice = hint ?? (code === 'corruption' ? damagedHint : undefined);
  return new TarsError(code, what, advice === undefined ? { cause: error } : { hint: advice, cause: error });
}

const damagedHint =
  'Find out what else is damaged with: tars check --read-data. Then restore another snapshot.';

function refuseOnFindings(name: string, findings: readonly Finding[]): void {
  const errors = findings.filter((finding) => finding.severity === 'error' && !isMissing(finding));
  if (errors.length === 0) return;
  throw new RestoreRefusedError(
    `The staged ${name} differs from what was captured; nothing live was changed: ${errors.map(({ message }) => message).join('; ')}`,
  );
}

const isMissing = ({ acceptable }: Finding): boolean => acceptable === true;

const namedMax = 20;

function notAccepted(missing: readonly Finding[]): RestoreRefusedError {
  const named = missing.slice(0, namedMax).map(({ subject, message }) => `${subject}: ${message}`);
  const more = missing.length > namedMax ? [`and ${missing.length - namedMax} more`] : [];
  return new RestoreRefusedError(
    `The restore would lack parts of the snapshot, and nothing live was changed: ${[...named, ...more].join('; ')}`,
    { hint: 'To restore everything else, run the restore again with --accept-missing.' },
  );
}
