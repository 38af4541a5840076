import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { RestoreRefusedError } from '../../model/errors.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { RestoreOptions, RestorePlan } from '../../model/restore-plan.ts';
import { isThere } from '../../disk/is-there.ts';
import { isKeptOut, type Tree } from './capture.ts';
import { parseTreesFacts, treeFolder, type CapturedTree } from './facts.ts';

/** What staging has to know of a planned restore. */
export interface TreesPlanDetails {
  readonly restoreId: string;
  /** The component's folder in the snapshot. */
  readonly folder: string;
  readonly trees: readonly CapturedTree[];
  /** SHA-256 by artifact. */
  readonly hashes: ReadonlyMap<string, string>;
}

/** Where a component restores to. */
export interface TreesPlace {
  readonly name: string;
  readonly kind: string;
  readonly service: string | undefined;
  readonly trees: readonly Tree[];
  /** The directories themselves are mounted elsewhere and stay. */
  readonly keepDirectory: boolean;
}

/** Only directories that are configured here are restored: a snapshot cannot choose other places to write to. */
export async function planTreesRestore(
  place: TreesPlace,
  from: ComponentManifest,
  { restoreId }: RestoreOptions,
): Promise<RestorePlan<TreesPlanDetails>> {
  const facts = parseTreesFacts(from.facts, from.name);
  const trees = facts.trees.flatMap((captured) => {
    const own = place.trees.find(({ path }) => path === captured.path);
    if (own === undefined) return [];
    return [{ ...captured, entries: captured.entries.filter(({ path }) => !isKeptOut(own, path)) }];
  });
  const warnings = facts.trees
    .filter(({ path }) => !trees.some((tree) => tree.path === path))
    .map(
      ({ path }) => `${path} is in the snapshot and stays there: ${place.name} of tars.yaml does not name it`,
    );
  const artifacts = new Map(from.artifacts.map((artifact) => [artifact.path, artifact]));
  const wanted: string[] = [];
  const steps: string[] = [];
  const space: { path: string; sizeBytes: number }[] = [];
  for (const { path, entries } of trees) {
    const files = entries
      .filter(({ type }) => type === 'file')
      .map((entry) => `${treeFolder(from.name, path)}/${entry.path}`);
    wanted.push(...files);
    const sizeBytes = files.reduce((sum, file) => sum + (artifacts.get(file)?.sizeBytes ?? 0), 0);
    const own = place.trees.find((tree) => tree.path === path);
    const live = own?.live ?? path;
    const kept = await keptEntries(place.name, live, own?.keepOut ?? []);
    if (kept.length > 0) steps.push(`Leave ${kept.map((way) => join(live, way)).join(', ')} as it is`);
    steps.push(
      `Restore ${files.length} ${files.length === 1 ? 'file' : 'files'} into ${live}; what is there now is kept aside`,
    );
    space.push({
      path: await nearestExisting(place.keepDirectory || kept.length > 0 ? live : dirname(live)),
      sizeBytes,
    });
  }
  const missing = wanted.find((path) => !artifacts.has(path));
  if (missing !== undefined) {
    throw new RestoreRefusedError(`Cannot restore ${from.name}: the snapshot lacks ${missing}`, {
      hint: 'Restore from another snapshot.',
    });
  }
  return {
    ...{ component: place.name, kind: place.kind, steps, warnings, artifacts: wanted, space },
    requires: { stopped: place.service === undefined ? [] : [place.service], running: [] },
    details: {
      ...{ restoreId, trees, folder: from.name },
      hashes: new Map(from.artifacts.map(({ path, sha256 }) => [path, sha256])),
    },
  };
}

async function nearestExisting(path: string): Promise<string> {
  let candidate = path;
  while (dirname(candidate) !== candidate && (await stat(candidate).catch(() => undefined)) === undefined)
    candidate = dirname(candidate);
  return candidate;
}

/**
 * Entries of the directory `live` that are not the tree's own and are there now: they stay where they are.
 * @throws RestoreRefusedError when something lies deeper, and would be moved with its parent
 */
export async function keptEntries(
  name: string,
  live: string,
  keepOut: readonly string[],
): Promise<readonly string[]> {
  const there = await Promise.all(keepOut.map((way) => isThere(join(live, way))));
  const kept = keepOut.filter((_, index) => there[index]);
  const deep = kept.find((way) => way.includes('/'));
  if (deep === undefined) return kept;
  const [parent = ''] = deep.split('/');
  throw new RestoreRefusedError(
    `Cannot restore ${name}: the exchange of ${join(live, parent)} would move ${join(live, deep)}, which must stay where it is`,
    {
      hint: `Move it out of ${live} and correct its path in tars.yaml, or name the directories beside it one by one under paths: of ${name} in tars.yaml.`,
    },
  );
}
