import type { ComponentManifest, Manifest } from '../../model/manifest.ts';
import type { Component } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ProvisionPlan, ProvisionRequest } from '../../ports/provisioner.ts';
import { lostVariables } from './lost-variables.ts';
import type { RestoreSelection, RestoreTarget } from './target.ts';

/** What must be created before stores can be restored. */
export interface PlannedProvision {
  readonly plan: ProvisionPlan;
  readonly request: ProvisionRequest;
  /** What cannot be planned before it has a place. */
  readonly later: readonly ComponentManifest[];
  readonly selection: RestoreSelection;
}

interface ChosenComponent {
  readonly component: Component;
  readonly captured: ComponentManifest;
}

/**
 * Compares what the stores run in with what they need.
 * @returns undefined for a stack that needs nothing of the kind
 * @throws RestoreRefusedError when something is missing that cannot be created
 */
export async function planProvision(
  { compose: recorded }: Manifest,
  chosen: readonly ChosenComponent[],
  { provisioner }: RestoreTarget,
  selection: RestoreSelection,
  ctx: OperationContext,
): Promise<PlannedProvision | undefined> {
  if (provisioner === undefined) return undefined;
  const stores = chosen.flatMap(({ component: { name, kind, service }, captured }) =>
    service === undefined ? [] : [{ component: name, kind, service, version: captured.serverVersion }],
  );
  const request: ProvisionRequest = {
    recorded: withoutRestored(recorded, chosen),
    stores,
    restorable: chosen.flatMap(({ component, captured }) =>
      component.service === undefined ? filesIn(captured) : [],
    ),
    whole: selection.only === undefined,
  };
  const plan = await provisioner.plan(request, ctx);
  const created = new Set(plan.services);
  const later = chosen
    .filter(({ component: { service } }) => service !== undefined && created.has(service))
    .map(({ captured }) => captured);
  return { plan, request, later, selection };
}

/** A variable that the snapshot brings back is not missed. */
function withoutRestored(
  recorded: Manifest['compose'],
  chosen: readonly ChosenComponent[],
): Manifest['compose'] {
  if (recorded === undefined) return undefined;
  const lost = lostVariables(
    recorded,
    chosen.map(({ captured }) => captured),
  );
  return { ...recorded, shellVariables: [...lost] };
}

/** Where the files of a configuration belong that the snapshot can bring back. */
function filesIn({ facts: { files, trueCopy } }: ComponentManifest): string[] {
  if (!Array.isArray(files) || trueCopy === 'none') return [];
  return files.flatMap((file: unknown) =>
    typeof file === 'object' && file !== null && 'path' in file && typeof file.path === 'string'
      ? [file.path]
      : [],
  );
}
