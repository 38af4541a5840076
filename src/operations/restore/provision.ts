import { throwIfAborted } from '../../model/abort.ts';
import { messageOf, RestoreRefusedError, TarsError } from '../../model/errors.ts';
import { hasErrors, type Finding } from '../../model/finding.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { PlannedProvision } from './provision-plan.ts';
import { planRestore, type PlannedComponent, type StackRestorePlan } from './plan.ts';
import type { Run } from './run.ts';
import { startAgain, startOrder } from '../services.ts';
import { requireSpace } from '../space.ts';

/**
 * Puts the files in place that services are created from, creates what is missing and plans the whole restore into
 * it. Nothing is started but what planning needs. The journal knows of all of it, so that it can be put back.
 * @returns the plan of everything, files included: they are as in the snapshot by now
 */
export async function provision(run: Run, planned: PlannedProvision): Promise<StackRestorePlan> {
  const { plan, source, target, ctx, note } = run;
  for (const item of plan.planned.filter(({ component }) => component.service === undefined))
    await restoreFiles(item, run);
  throwIfAborted(ctx.signal);
  const provisioner = requireProvisioner(run);
  const before = await provisioner.existing(ctx);
  await note({ creating: before });
  const created = await provisioner.create(planned.request, before, ctx);
  await note({ creating: undefined, created, components: plan.manifest.components.map(({ name }) => name) });
  const selection = { ...planned.selection, startServices: true };
  const whole = await planRestore(source, target, selection, ctx);
  for (const warning of whole.warnings.filter((text) => !plan.warnings.includes(text))) ctx.log.warn(warning);
  await requireSpace(whole.planned.flatMap((item) => item.plan.space));
  // Its own plan finds nothing missing any more, and what was missing is to be started.
  return { ...whole, provision: planned };
}

function requireProvisioner({ target: { provisioner } }: Run) {
  if (provisioner !== undefined) return provisioner;
  throw new TarsError('internal', 'The plan creates something, and there is nothing to create it with');
}

/** A component without a service: its files are swapped before all others. */
async function restoreFiles(planned: PlannedComponent, run: Run): Promise<void> {
  const { source, ctx, note, entry } = run;
  const staged = await planned.stage(source, ctx);
  const findings = await staged.verify(ctx);
  if (hasErrors(findings)) {
    await staged.discard(ctx);
    throw new RestoreRefusedError(
      `The staged ${planned.component.name} differs from what was captured: ${findings.map(({ message }) => message).join('; ')}`,
    );
  }
  await note({ phase: 'swapping', records: [...entry().records, staged.record] });
  await staged.swap(ctx);
}

/**
 * Starts `names` in the order of their dependencies, each once those are as well as they were at the capture, and
 * says which did not get well. Starting is not interrupted, waiting is. Never throws.
 */
export async function startAndJudge(
  names: readonly string[],
  { target: { runtime, provisioner }, plan, ctx }: Run,
): Promise<readonly Finding[]> {
  const fresh: OperationContext = { ...ctx, signal: new AbortController().signal };
  const findings: Finding[] = [];
  const restored = plan.planned.flatMap(({ component: { service } }) => service ?? []);
  const health = new Map<string, Promise<readonly Finding[]>>();
  const judge = (service: string): void => {
    const answer = provisioner?.awaitHealth(service, plan.manifest.compose, ctx) ?? Promise.resolve([]);
    health.set(
      service,
      answer.catch((error: unknown) => [unjudged(service, error)]),
    );
  };
  for (const service of await orderOf([...names, ...restored], runtime, fresh)) {
    if (names.includes(service.name)) {
      await Promise.all(service.dependsOn.flatMap((dependency) => health.get(dependency) ?? []));
      for (const { message } of await startAgain([service.name], runtime, fresh))
        findings.push({ severity: 'error', subject: service.name, code: 'service-not-started', message });
    }
    if (!findings.some(({ subject }) => subject === service.name)) judge(service.name);
  }
  return [...findings, ...(await Promise.all(health.values())).flat()];
}

async function orderOf(
  names: readonly string[],
  runtime: Run['target']['runtime'],
  ctx: OperationContext,
): Promise<readonly { readonly name: string; readonly dependsOn: readonly string[] }[]> {
  try {
    return startOrder(await runtime.discover(ctx)).filter(({ name }) => names.includes(name));
  } catch {
    // Each is tried all the same, and says itself why it cannot be started.
    return [...new Set(names)].map((name) => ({ name, dependsOn: [] }));
  }
}

function unjudged(service: string, error: unknown): Finding {
  const detail = messageOf(error);
  const message = `tars did not wait until it was healthy: ${detail}`;
  return { severity: 'warning', subject: service, code: 'health-unknown', message };
}
