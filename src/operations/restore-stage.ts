import { RestoreRefusedError } from '../model/errors.ts';
import type { Finding } from '../model/finding.ts';
import type { Staged } from '../ports/component.ts';
import { countingSource } from './counting-source.ts';
import type { PlannedRestore } from './restore-plan.ts';
import type { Run } from './restore-run.ts';
import { startServices, waitReady } from './services.ts';

/** A component whose data lies beside the live one. */
export interface StagedComponent extends PlannedRestore {
  readonly staged: Staged;
}

/**
 * Stages and verifies every component; nothing live changes.
 * @throws RestoreRefusedError when what was staged is not what was captured
 */
export async function stageAll(run: Run): Promise<readonly StagedComponent[]> {
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

async function stageOne({ component, plan, sizeBytes }: PlannedRestore, run: Run): Promise<Staged> {
  const { source, ctx } = run;
  const task = ctx.progress.start(`staging ${component.name}`, sizeBytes);
  try {
    const counted = countingSource(source, (bytes) => task.advance(bytes));
    const staged = await component.stage(plan, counted, ctx);
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
