import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { whenMissing } from '../../disk/is-there.ts';
import { artifactsOf } from '../../model/artifact-list.ts';
import { RestoreRefusedError } from '../../model/errors.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { RestoreOptions, RestorePlan } from '../../model/restore-plan.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Decision } from '../restore/single-use.ts';
import { besidePath } from '../paths/beside-name.ts';
import type { DerivedSource } from '../../ports/store-place.ts';
import { derivedPaths, readDerived } from './derived.ts';
import { parseConfigFacts, type CapturedFile, type ConfigFacts } from './facts.ts';
import { pathInSnapshot } from './files.ts';

/** What staging has to know of a planned restore. */
export interface ConfigPlanDetails {
  readonly restoreId: string;
  readonly restoreConfig: boolean;
  readonly trueCopy: ConfigFacts['trueCopy'];
  /** The component's folder in the snapshot. */
  readonly folder: string;
  readonly files: readonly CapturedFile[];
}

/** Where a component restores to. */
export interface ConfigPlace {
  readonly name: string;
  readonly kind: string;
  readonly files: readonly string[];
  readonly ageIdentityFile: string | undefined;
  readonly derived: DerivedSource | undefined;
}

/** What to do about a configuration file that differs and was left as it is. */
export const restoreConfigHint = 'use --restore-config to replace it';

/** A live file's bytes; undefined when there is none. */
export async function liveBytes(path: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
  return readFile(path, { signal }).catch(whenMissing(undefined, `Cannot read ${path}`));
}

/** Only files that are configured here are restored: a snapshot cannot choose other places to write to. */
export async function planConfigRestore(
  place: ConfigPlace,
  from: ComponentManifest,
  options: RestoreOptions,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Decision<ConfigPlanDetails>> {
  const { signal } = ctx;
  const facts = parseConfigFacts(from.facts, from.name);
  const derived = await wantedDerived(place, facts, ctx);
  const files = facts.files.filter(({ path }) => place.files.includes(path) || path === derived);
  const warnings = facts.files
    .filter((file) => !files.includes(file) && file.path !== facts.derived?.path)
    .map(
      ({ path }) =>
        `${path} is in the snapshot and is not restored: it is not listed under files: in tars.yaml`,
    );
  if (facts.trueCopy === 'none') {
    warnings.push(
      `The snapshot holds no true configuration, because ${facts.trueCopyReason ?? 'it was left out'}`,
    );
  }
  if (facts.trueCopy === 'sealed' && files.length > 0 && place.ageIdentityFile === undefined) {
    throw new RestoreRefusedError(`Cannot restore ${from.name}: its files are sealed for an age recipient`, {
      hint: 'Set age_identity_file of the component in tars.yaml to the file that age-keygen wrote, or leave the component out.',
    });
  }
  const artifacts = artifactsFor(from.name, facts.trueCopy, files);
  await requireArtifacts(from, artifacts, source, signal);
  const steps: string[] = [];
  for (const file of files) {
    const { step, warning } = await stepFor(file, facts.trueCopy, options, signal);
    steps.push(step);
    if (warning !== undefined) warnings.push(warning);
  }
  if (derived !== undefined && facts.derived !== undefined) warnings.push(derivedNote(facts.derived));
  const plan: RestorePlan = {
    ...{ component: place.name, kind: place.kind, steps, warnings, artifacts },
    requires: { stopped: [], running: [] },
    space: [],
  };
  const { restoreId, restoreConfig } = options;
  const { trueCopy } = facts;
  return { plan, details: { restoreId, restoreConfig, trueCopy, folder: from.name, files } };
}

/** While what the file was made of is there, nobody needs it. */
async function wantedDerived(
  { files, derived }: ConfigPlace,
  facts: ConfigFacts,
  ctx: OperationContext,
): Promise<string | undefined> {
  const path = facts.derived?.path;
  if (path === undefined || !derivedPaths(files, derived).includes(path)) return undefined;
  return (await readDerived(derived, ctx)) === undefined ? path : undefined;
}

const derivedNote = ({ path, names }: NonNullable<ConfigFacts['derived']>): string =>
  `${path} holds ${names.join(', ')}, which no captured file defines. tars reads this file. Before you run docker compose yourself, move the variables into .env, or pass this file with --env-file`;

function artifactsFor(
  folder: string,
  trueCopy: ConfigFacts['trueCopy'],
  files: readonly CapturedFile[],
): string[] {
  if (files.length === 0) return [];
  if (trueCopy === 'sealed') return [`${folder}/sealed.age`];
  const part = trueCopy === 'repository' ? 'true' : 'redacted';
  return files.map(({ path }) => `${folder}/${part}/${pathInSnapshot(path)}`);
}

async function requireArtifacts(
  from: ComponentManifest,
  wanted: readonly string[],
  source: ArtifactSource,
  signal: AbortSignal,
): Promise<void> {
  const absent = new Set(wanted);
  for await (const { path } of artifactsOf(from, source, signal)) absent.delete(path);
  const [missing] = absent;
  if (missing === undefined) return;
  throw new RestoreRefusedError(`Cannot restore ${from.name}: the snapshot lacks ${missing}`, {
    hint: 'Restore from another snapshot.',
  });
}

async function stepFor(
  { path, sha256 }: CapturedFile,
  trueCopy: ConfigFacts['trueCopy'],
  { restoreId, restoreConfig }: RestoreOptions,
  signal: AbortSignal,
): Promise<{ readonly step: string; readonly warning?: string }> {
  if (trueCopy === 'none') return { step: `Write the redacted view to ${path}.redacted-${restoreId}` };
  const live = await liveBytes(path, signal);
  if (live === undefined) return { step: `Restore ${path}` };
  const replaced = `the existing file is kept as ${besidePath(path, 'prev', restoreId)}`;
  if (sha256 === undefined) {
    return restoreConfig
      ? { step: `Replace ${path} if it differs; ${replaced}` }
      : { step: `Leave ${path} as it is; if it differs, ${restoreConfigHint}` };
  }
  if (createHash('sha256').update(live).digest('hex') === sha256)
    return { step: `Leave ${path}: it equals the snapshot` };
  if (restoreConfig) return { step: `Replace ${path}; ${replaced}` };
  return {
    step: `Leave ${path} as it is`,
    warning: `${path} differs from the snapshot and is left as it is; ${restoreConfigHint}`,
  };
}
