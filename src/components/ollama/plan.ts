import { join } from 'node:path';
import { statIfThere } from '../../disk/is-there.ts';
import { nearestExisting } from '../../disk/space.ts';
import { artifactsOf } from '../../model/artifact-list.ts';
import { RestoreRefusedError } from '../../model/errors.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { RestoreOptions, RestorePlan } from '../../model/restore-plan.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Decision } from '../restore/single-use.ts';
import { parseOllamaFacts, type StoredModel } from './facts.ts';
import { blobFileName, readModels } from './model-store.ts';

/** What staging has to know of a planned restore. */
export interface OllamaPlanDetails {
  readonly restoreId: string;
  /** Models whose manifest will be put in place, blobs first. */
  readonly models: readonly StoredModel[];
  /** The component's folder in the snapshot. */
  readonly folder: string;
}

/** Where a component restores to. */
export interface OllamaPlace {
  readonly name: string;
  readonly kind: string;
  readonly service: string | undefined;
  readonly root: string;
  readonly liveBlob?: LiveBlob;
}

/** SHA-256 of a live blob, by its file name. */
export type LiveBlob = (
  file: string,
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
) => Promise<string>;

/** Decides model by model what can be restored; reads sizes only, blobs are hashed when staged. */
export async function planOllamaRestore(
  place: OllamaPlace,
  from: ComponentManifest,
  options: RestoreOptions,
  ctx: OperationContext,
  source: ArtifactSource,
): Promise<Decision<OllamaPlanDetails>> {
  const facts = parseOllamaFacts(from.facts, from.name);
  const live = new Map((await readModels(place.root, ctx.signal)).models.map((m) => [m.path, m.digest]));
  const artifacts = new Set<string>();
  const models: StoredModel[] = [];
  const steps: string[] = [];
  const warnings: string[] = facts.incomplete.map(
    ({ name, reason }) => `${name} is not in the snapshot: ${reason}`,
  );
  let sizeBytes = 0;
  for (const model of facts.models) {
    const lacking = await lackingBlobs(place.root, model);
    if (model.stored === 'none' || (model.stored === 'manifest' && lacking.length > 0)) {
      if (lacking.length > 0 || !live.has(model.path))
        steps.push(
          `The snapshot holds only the name of ${model.name}: afterwards run ollama pull ${model.name}`,
        );
      continue;
    }
    models.push(model);
    artifacts.add(`${from.name}/manifests/${model.path}`);
    for (const blob of lacking) {
      const path = `${from.name}/blobs/${blobFileName(blob.sha256)}`;
      if (!artifacts.has(path)) sizeBytes += blob.sizeBytes;
      artifacts.add(path);
    }
    steps.push(stepFor(place.root, options.restoreId, model, live.get(model.path), lacking));
  }
  await requireArtifacts(from, artifacts, source, ctx.signal);
  const kept = [...live.keys()].filter((path) => !facts.models.some((model) => model.path === path)).length;
  if (kept > 0) steps.push(`Keep ${kept} ${kept === 1 ? 'model' : 'models'} that the snapshot does not have`);
  const plan: RestorePlan = {
    ...{ component: place.name, kind: place.kind, steps, warnings },
    artifacts: [...artifacts],
    requires: { stopped: place.service === undefined ? [] : [place.service], running: [] },
    space: sizeBytes === 0 ? [] : [{ path: await nearestExisting(place.root), sizeBytes }],
  };
  return { plan, details: { restoreId: options.restoreId, models, folder: from.name } };
}

async function lackingBlobs(root: string, model: StoredModel): Promise<StoredModel['blobs']> {
  const lacking: StoredModel['blobs'] = [];
  for (const blob of model.blobs) {
    const stats = await statIfThere(join(root, 'blobs', blobFileName(blob.sha256)));
    if (stats === undefined || Number(stats.size) !== blob.sizeBytes) lacking.push(blob);
  }
  return lacking;
}

function stepFor(
  root: string,
  restoreId: string,
  model: StoredModel,
  liveDigest: string | undefined,
  lacking: StoredModel['blobs'],
): string {
  const blobs = lacking.length === 0 ? '' : `, writing ${lacking.length} of ${model.blobs.length} blobs`;
  if (liveDigest === undefined) return `Restore ${model.name} into ${root}${blobs}`;
  if (liveDigest === model.digest) return `Check ${model.name}, which equals the snapshot${blobs}`;
  const previous = join(root, `.tars-prev-${restoreId}`);
  return `Replace ${model.name} in ${root}${blobs}; the existing one is kept in ${previous}`;
}

async function requireArtifacts(
  from: ComponentManifest,
  wanted: ReadonlySet<string>,
  source: ArtifactSource,
  signal: AbortSignal,
): Promise<void> {
  const absent = new Set(wanted);
  for await (const { path } of artifactsOf(from, source, signal)) absent.delete(path);
  const missing = [...absent];
  if (missing.length === 0) return;
  throw new RestoreRefusedError(
    `Cannot restore ${from.name}: the snapshot lacks ${missing.length} of its artifacts, such as ${missing[0] ?? ''}`,
    { hint: 'Restore from another snapshot.' },
  );
}
