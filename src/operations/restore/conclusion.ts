import { InterruptedError, messageOf } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import { startAndJudge } from './provision.ts';
import type { StopAndStart } from '../../ports/runtime.ts';
import { planServices } from './plan.ts';
import type { Run } from './run.ts';
import type { StagedComponent, StagedStack } from './stage.ts';
import { dependentsOf, startOrder } from '../services.ts';
import { compareLive } from '../verify/verify.ts';

/**
 * The restored data is in place, and stays: compares it, and starts what was stopped, whatever the comparison says or
 * whoever interrupts it.
 */
export async function concludeSwapped(
  run: Run,
  { skipValidation }: { readonly skipValidation: boolean },
  known: Pick<StagedStack, 'missing' | 'noted'>,
): Promise<readonly Finding[]> {
  const { plan, ctx, entry, note } = run;
  const findings: Finding[] = [];
  let interruption: unknown;
  try {
    if (!skipValidation) findings.push(...asStaged(await compareRestored(run), known));
  } catch (error) {
    interruption = error;
  }
  findings.push(...(await startAndJudge(entry().stopped, run)));
  const byHand = await stopAndStart(run);
  await note({ phase: 'done', ...(byHand === undefined ? {} : { byHand }) }).catch((error: unknown) => {
    // The next run finds all in place, and says so once more.
    const message = `The end of the restore could not be recorded: ${messageOf(error)}`;
    findings.push({ severity: 'warning', subject: 'journal', code: 'journal-not-written', message });
  });
  if (interruption === undefined) return findings;
  for (const { subject, message } of findings) ctx.log.warn(`${subject}: ${message}`);
  throw new InterruptedError(
    'Interrupted; the restored data is in place, but the comparison did not finish',
    {
      hint: `Compare it with: tars verify ${plan.snapshot.slice(0, 8)}`,
      cause: interruption,
    },
  );
}

/** What was accepted is not an error again, and what was of no account in the staged data is none now. */
function asStaged(
  findings: readonly Finding[],
  { missing, noted }: Pick<StagedStack, 'missing' | 'noted'>,
): readonly Finding[] {
  const same = (one: Finding) => (other: Finding) =>
    one.subject === other.subject && one.code === other.code && one.message === other.message;
  return findings
    .filter((finding) => !missing.some(same(finding)))
    .map((finding) => noted.find(same(finding)) ?? finding)
    .filter((finding) => finding.severity !== 'info' || !noted.includes(finding));
}

/** For going back: what must not run then, of all that runs now. Undefined where nobody can say. */
async function stopAndStart({ plan, target, ctx }: Run): Promise<StopAndStart | undefined> {
  const fresh = { ...ctx, signal: new AbortController().signal };
  try {
    const { stop } = await planServices(plan.planned, target, fresh);
    return await target.runtime.byHand?.(stop, fresh);
  } catch (error) {
    ctx.log.debug(`It is unknown which services must be stopped to undo the restore: ${messageOf(error)}`);
    return undefined;
  }
}

/** After a disaster what used the stores is often down, and only what ran before is started again. */
export async function servicesLeftStopped({ plan, target, ctx, entry }: Run): Promise<readonly string[]> {
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

function compareRestored({ plan: { planned, manifest }, source, ctx }: Run): Promise<readonly Finding[]> {
  const pairs = planned.flatMap(({ component, plan: { part } }) => {
    const captured = part ?? manifest.components.find(({ name }) => name === component.name);
    return captured === undefined ? [] : [{ component, captured }];
  });
  return compareLive(pairs, source, ctx);
}

/** The restore has succeeded by now: what cannot be deleted is a warning. */
export async function discardPrevious(
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
