import { join } from 'node:path';
import { holdsNothing } from '../../../disk/holds-nothing.ts';
import { collectArtifacts } from '../../../model/artifact-list.ts';
import { formatBytes } from '../../../model/bytes.ts';
import { isThere } from '../../../disk/is-there.ts';
import { messageOf, RestoreRefusedError } from '../../../model/errors.ts';
import type { ComponentManifest } from '../../../model/manifest.ts';
import type { RestoreOptions, RestorePlan } from '../../../model/restore-plan.ts';
import { counted } from '../../../model/plural.ts';
import type { ArtifactSource } from '../../../ports/artifacts.ts';
import type { Decision } from '../../restore/single-use.ts';
import { PersistDirectory } from '../direct/persist-directory.ts';
import { openTablesForPlan, sqliteFileName } from '../direct/tables.ts';
import { placedCollections, type ChromaFacts, type Migration } from '../facts.ts';
import { persistPrefix } from './capture.ts';

/** What {@link planPhysicalRestore} needs to know of the component. */
export interface PhysicalPlace {
  readonly name: string;
  readonly kind: string;
  readonly service: string | undefined;
  /** The live persist directory; it need not exist. */
  readonly path: string;
  /** The directory itself must stay: only what is in it is exchanged. */
  readonly keepDirectory: boolean;
}

/** What staging needs of the plan. */
export interface PhysicalRestoreDetails {
  readonly restoreId: string;
  readonly facts: ChromaFacts;
  /** The folder of the artifacts in the snapshot. */
  readonly prefix: string;
}

/**
 * Plans replacing the whole persist directory.
 * @throws RestoreRefusedError when the live directory belongs to an older Chroma than the snapshot: its server
 * would panic on the newer tables
 */
export async function planPhysicalRestore(
  from: ComponentManifest,
  facts: ChromaFacts,
  place: PhysicalPlace,
  { restoreId }: Pick<RestoreOptions, 'restoreId'>,
  source: ArtifactSource,
  signal: AbortSignal,
): Promise<Decision<PhysicalRestoreDetails>> {
  const warnings: string[] = [];
  const isNew = await holdsNothing(place.path);
  const live = isNew ? undefined : await liveMigrations(place.path, warnings);
  if (live !== undefined) refuseDowngrade(facts.migrations ?? [], live, place.path);
  const prefix = `${persistPrefix(from.name)}/`;
  const all = await collectArtifacts(from, source, signal);
  const artifacts = all.filter(({ path }) => path.startsWith(prefix));
  const sizeBytes = artifacts.reduce((sum, artifact) => sum + artifact.sizeBytes, 0);
  if (!artifacts.some(({ path }) => path === `${prefix}${sqliteFileName}`)) {
    throw new RestoreRefusedError(`The snapshot has no ${prefix}${sqliteFileName}`, {
      hint: 'Restore another snapshot.',
    });
  }
  if (place.service === undefined) {
    warnings.push(`No service is configured for ${place.name}: stop Chroma yourself before the restore`);
  }
  const collections = [...placedCollections(facts)];
  const records = collections.reduce((sum, { collection }) => sum + collection.recordCount, 0);
  const plan: RestorePlan = {
    component: place.name,
    kind: place.kind,
    steps: [
      `Stage ${counted(collections.length, 'collection')} with ${counted(records, 'record')} (${formatBytes(sizeBytes)}) beside ${place.path} and read all of them`,
      isNew
        ? `Put the staged directory into ${place.path}, which is empty; the server there must not be older than the captured one`
        : `Put the staged directory in the place of ${place.path}; the previous one is kept beside it`,
    ],
    warnings,
    artifacts: artifacts.map(({ path }) => path),
    requires: { stopped: place.service === undefined ? [] : [place.service], running: [] },
    space: [{ path: place.path, sizeBytes }],
  };
  return { plan, details: { restoreId, facts, prefix: persistPrefix(from.name) } };
}

async function liveMigrations(path: string, warnings: string[]): Promise<readonly Migration[] | undefined> {
  if (!(await isThere(join(path, sqliteFileName)))) {
    warnings.push(
      `There is no ${sqliteFileName} in ${path}, so the version of the server is unknown: it must not be older than the captured one`,
    );
    return undefined;
  }
  try {
    using live = new PersistDirectory(path, openTablesForPlan);
    const migrations = live.migrations();
    if (migrations.length > 0) return migrations;
    warnings.push(
      `The live ${sqliteFileName} in ${path} is empty, so the version of the server is unknown: it must not be older than the captured one`,
    );
    return undefined;
  } catch (error) {
    const detail = messageOf(error);
    warnings.push(`The live ${sqliteFileName} cannot be read, so the server's version is unknown: ${detail}`);
    return undefined;
  }
}

/** A server applies missing migrations at its start and knows no way back. */
function refuseDowngrade(snapshot: readonly Migration[], live: readonly Migration[], path: string): void {
  const applied = new Map(live.map(({ dir, version }) => [dir, version]));
  const newer = snapshot.filter(({ dir, version }) => version > (applied.get(dir) ?? 0));
  if (newer.length === 0) return;
  const list = newer
    .map(({ dir, version }) => `${dir} ${version} (here ${applied.get(dir) ?? 0})`)
    .join(', ');
  throw new RestoreRefusedError(
    `The snapshot was taken from a newer Chroma than the one that wrote ${path}: its tables are at ${list}`,
    { hint: 'Upgrade Chroma here to the version captured and start it once, then restore.' },
  );
}
