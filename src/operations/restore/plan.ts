import { throwIfAborted } from '../../model/abort.ts';
import { artifactsOf } from '../../model/artifact-list.ts';
import { RestoreRefusedError, ServiceUnavailableError, TarsError, toTarsError } from '../../model/errors.ts';
import {
  describeIncomplete,
  missingFrom,
  type ComponentManifest,
  type Manifest,
  type ManifestArtifact,
} from '../../model/manifest.ts';
import type { RestorePlan } from '../../model/restore-plan.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { Component, PlannedRestore } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotSource } from '../../ports/snapshot-store.ts';
import { planProvision, type PlannedProvision } from './provision-plan.ts';
import type { RestoreSelection, RestoreTarget } from './target.ts';
import { dependentsOf, startOrder, startServices, waitReady } from '../services.ts';

/** A component and how it will be restored. */
export interface PlannedComponent extends PlannedRestore {
  readonly component: Component;
  /** Of the artifacts that are read. */
  readonly sizeBytes: number;
}

/** The whole restore as it will happen; `--dry-run` prints it, {@link executeRestore} consumes it. */
export interface StackRestorePlan {
  readonly snapshot: string;
  readonly manifest: Manifest;
  readonly restoreId: string;
  readonly planned: readonly PlannedComponent[];
  /** What has to be created first. Stores in it are planned once it is there. */
  readonly provision: PlannedProvision | undefined;
  /** Services that will be stopped for the swap, in the order of stopping. */
  readonly stop: readonly string[];
  /** Services started for staging or afterwards, in the order of starting: stores first, then what ran before. */
  readonly start: readonly string[];
  /** Services that are stopped and started anew after the swap. */
  readonly restart: readonly string[];
  /** What is verified before anything is changed: {@link artifactsNeeded} reads it. */
  readonly artifacts: { readonly count: number; readonly sizeBytes: number };
  readonly warnings: readonly string[];
}

/**
 * Decides everything about a restore and touches nothing.
 * @throws RestoreRefusedError when a component cannot be restored safely; all refusals are in the message
 */
export async function planRestore(
  source: SnapshotSource,
  target: RestoreTarget,
  selection: RestoreSelection,
  ctx: OperationContext,
): Promise<StackRestorePlan> {
  const manifest = await source.manifest(ctx.signal);
  const chosen = chooseComponents(manifest, target, selection);
  const planned: PlannedComponent[] = [];
  const refusals: TarsError[] = [];
  const provision = await planProvision(manifest, chosen.pairs, target, selection, ctx);
  const later = new Set(provision?.later.map(({ name }) => name));
  for (const { component, captured } of chosen.pairs.filter(({ captured: { name } }) => !later.has(name))) {
    try {
      const restore = await planComponent(component, captured, source, target, selection, ctx);
      const { plan } = restore;
      const { sizeBytes } = await countArtifacts(artifactsRead(plan, captured, source, ctx.signal));
      planned.push({ component, plan, sizeBytes, stage: (...stage) => restore.stage(...stage) });
    } catch (error) {
      refusals.push(toTarsError(error, `Cannot plan the restore of ${component.name}`));
    }
  }
  throwIfAborted(ctx.signal);
  refuseOn(refusals);
  const { offline: _offline, ...services } = await planServices(planned, target, ctx);
  const parts = { manifest, planned, provision };
  const artifacts = await countArtifacts(artifactsNeeded(parts, source, ctx.signal));
  return {
    snapshot: source.summary.id,
    manifest,
    restoreId: selection.restoreId,
    planned,
    provision,
    artifacts,
    ...services,
    start: [...new Set([...services.start, ...(provision?.plan.start ?? [])])],
    warnings: [
      ...chosen.warnings,
      ...(selection.only === undefined ? missingWarnings(manifest, provision) : []),
      ...(provision?.plan.warnings ?? []),
      ...services.warnings,
      ...planned.flatMap(({ plan }) => plan.warnings),
    ],
  };
}

/** What the snapshot does not hold although the services have it. */
function missingWarnings(manifest: Manifest, provision: PlannedProvision | undefined): readonly string[] {
  const isNew = (service: string): boolean => provision?.plan.services.includes(service) === true;
  return missingFrom(manifest).map(({ subject, mount }) => {
    const service = mount?.service ?? subject.split(':')[0] ?? '';
    return isNew(service)
      ? `${subject} will be empty: the snapshot does not hold it`
      : `${subject} stays as it is, or will be empty: the snapshot does not hold it`;
  });
}

async function planComponent(
  component: Component,
  captured: ComponentManifest,
  source: SnapshotSource,
  target: RestoreTarget,
  selection: RestoreSelection,
  ctx: OperationContext,
): Promise<PlannedRestore> {
  try {
    return await component.planRestore(captured, selection, ctx, source);
  } catch (error) {
    const { service } = component;
    if (!(error instanceof ServiceUnavailableError) || service === undefined || !selection.startServices)
      throw error;
    const state = (await target.runtime.discover(ctx)).find(({ name }) => name === service)?.state;
    if (state !== 'stopped') throw error;
    await startServices(new Set([service]), target.runtime, ctx);
    await waitReady(component, target.runtime, ctx);
    return component.planRestore(captured, selection, ctx, source);
  }
}

/** Every artifact that the plan needs, one after the other. @throws CorruptionError when a list of them is damaged */
export async function* artifactsNeeded(
  { manifest, planned, provision }: Pick<StackRestorePlan, 'manifest' | 'planned' | 'provision'>,
  source: ArtifactSource,
  signal: AbortSignal,
): AsyncGenerator<ManifestArtifact> {
  for (const captured of manifest.components) {
    const plan = planned.find(({ component }) => component.name === captured.name)?.plan;
    const isLater = provision?.later.some(({ name }) => name === captured.name) === true;
    if (plan !== undefined) yield* artifactsRead(plan, captured, source, signal);
    else if (isLater) yield* artifactsOf(captured, source, signal);
  }
}

async function* artifactsRead(
  { artifacts, artifactTrees = [] }: RestorePlan,
  captured: ComponentManifest,
  source: ArtifactSource,
  signal: AbortSignal,
): AsyncGenerator<ManifestArtifact> {
  const named = new Set(artifacts);
  const folders = artifactTrees.map((folder) => `${folder}/`);
  for await (const artifact of artifactsOf(captured, source, signal)) {
    const { path } = artifact;
    if (named.has(path) || folders.some((folder) => path.startsWith(folder))) yield artifact;
  }
}

async function countArtifacts(
  artifacts: AsyncIterable<ManifestArtifact>,
): Promise<StackRestorePlan['artifacts']> {
  let [count, totalBytes] = [0, 0];
  for await (const { sizeBytes } of artifacts) {
    count++;
    totalBytes += sizeBytes;
  }
  return { count, sizeBytes: totalBytes };
}

function refuseOn(refusals: readonly TarsError[]): void {
  const [first] = refusals;
  if (first === undefined) return;
  if (refusals.length === 1) throw first;
  const hint = refusals.map((refusal) => refusal.hint).find((text) => text !== undefined);
  throw new RestoreRefusedError(
    refusals.map((refusal) => refusal.message).join('; '),
    hint === undefined ? { cause: first } : { hint, cause: first },
  );
}

function chooseComponents(manifest: Manifest, target: RestoreTarget, selection: RestoreSelection) {
  const known = manifest.components.map(({ name }) => name);
  for (const name of [...(selection.only ?? []), ...selection.skip]) {
    if (!known.includes(name)) {
      throw new RestoreRefusedError(`The snapshot has no component ${name}`, {
        hint: `It has: ${known.join(', ')}.`,
      });
    }
  }
  const wanted = manifest.components.filter(
    ({ name, kind }) =>
      (selection.only ?? known).includes(name) &&
      !selection.skip.includes(name) &&
      (selection.databases === undefined || kind === 'postgres'),
  );
  const warnings: string[] = [];
  const pairs = wanted.flatMap((captured) => {
    if (captured.outcome === 'failed') {
      const reason = captured.error?.message ?? 'no reason recorded';
      if (selection.only !== undefined) {
        throw new RestoreRefusedError(`${captured.name} was not captured in this snapshot: ${reason}`, {
          hint: 'Choose another snapshot: tars snapshots',
        });
      }
      warnings.push(`${captured.name} is not in this snapshot, because its capture failed: ${reason}`);
      return [];
    }
    const lacking = describeIncomplete(captured);
    if (lacking !== undefined) warnings.push(`${captured.name} is not complete in this snapshot: ${lacking}`);
    const component = target.components.find(({ name }) => name === captured.name);
    if (component === undefined) {
      throw new RestoreRefusedError(`The configuration has no component ${captured.name}`, {
        hint: `Add it to tars.yaml, or skip it with --skip ${captured.name}.`,
      });
    }
    if (component.kind !== captured.kind) {
      throw new RestoreRefusedError(
        `${captured.name} is of kind ${captured.kind} in the snapshot and ${component.kind} in the configuration`,
      );
    }
    return [{ component, captured }];
  });
  if (pairs.length === 0) throw new RestoreRefusedError('This selection leaves nothing to restore');
  return { pairs, warnings };
}

interface ServicePlan {
  /** Those that run and have to stop, in the order of stopping. */
  readonly stop: readonly string[];
  readonly start: readonly string[];
  /** Those that must be down while data is exchanged, also when they are down already. */
  readonly offline: readonly string[];
  /** Those that must run while their own data is exchanged, and that are started anew for what else was. */
  readonly restart: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * Which services have to stop for the swap, as things are now. Asked again right before the swap: between the plan and
 * that an operator may have started or stopped some.
 * @throws RestoreRefusedError when one must stop and cannot
 */
export async function planServices(
  planned: readonly PlannedComponent[],
  target: RestoreTarget,
  ctx: OperationContext,
): Promise<ServicePlan> {
  const services = startOrder(await target.runtime.discover(ctx));
  const mustRun = new Set(planned.flatMap(({ plan }) => plan.requires.running));
  const down = [...new Set(planned.flatMap(({ plan }) => plan.requires.stopped))];
  // A store that is exchanged through its server may have directories beside its data, such as settings.
  const mustStop = new Set(down.filter((service) => !mustRun.has(service)));
  const restart = down.filter((service) => mustRun.has(service));
  const stores = new Set(
    planned.flatMap(({ component }) => (component.service === undefined ? [] : [component.service])),
  );
  const dependents = dependentsOf(stores, services);
  const warnings: string[] = [];
  const stop: string[] = [];
  for (const service of [...services].reverse()) {
    const writes = (service.writer || dependents.has(service.name)) && !mustRun.has(service.name);
    if (!(writes || mustStop.has(service.name)) || service.state === 'stopped') continue;
    if (service.canStop) stop.push(service.name);
    else if (mustStop.has(service.name)) {
      throw new RestoreRefusedError(
        `${service.name} must be stopped for the restore, and tars does not know how`,
        {
          hint: `Give services.${service.name} a stop command, a systemd_unit or a pid_file in tars.yaml, or stop it yourself first.`,
        },
      );
    } else warnings.push(`${service.name} keeps running during the restore: tars.yaml has no way to stop it`);
  }
  for (const name of [...mustStop, ...stores]) {
    if (!services.some((service) => service.name === name)) {
      throw new RestoreRefusedError(`The service ${name} is not defined`, {
        hint: 'Define it under services: in tars.yaml.',
      });
    }
  }
  const start = services
    .filter(({ name }) => stores.has(name) || stop.includes(name))
    .map(({ name }) => name);
  return { stop, start, offline: [...mustStop], restart, warnings };
}
