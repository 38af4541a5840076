import { dirname, join } from 'node:path';
import { nearestExisting } from '../../disk/space.ts';
import { openPath, type OpenedPath } from '../../disk/open-path.ts';
import { isThere } from '../../disk/is-there.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import { RestoreRefusedError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { RestoreOptions, RestorePlan } from '../../model/restore-plan.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Decision } from '../restore/single-use.ts';
import { isMissingPath } from './exchange/exchange.ts';
import { someOf } from '../../model/plural.ts';
import { parseTreesFacts, type TreesFacts } from './facts.ts';
import { joinTree, type JoinedEntry } from './tree/joined.ts';
import type { OutsideReason } from './tree/scope.ts';
import { folderOf, restoredTrees, scopeOf, type RestoredTree, type TreesPlace } from './restoring.ts';

/** What staging has to know of a planned restore. */
export interface TreesPlanDetails {
  readonly restoreId: string;
  readonly from: ComponentManifest;
  /** What earlier restores left in each tree, by the path of the tree: relative paths, which stay in place. */
  readonly leftByRestores: ReadonlyMap<string, readonly string[]>;
}

/** How many entries that stay in place the plan names. */
const namedMax = 5;

/** Looks at both sides and says what is replaced, what is moved aside with it, and what stays in place. */
export async function planTreesRestore(
  place: TreesPlace,
  from: ComponentManifest,
  { restoreId }: RestoreOptions,
  ctx: OperationContext,
  source: ArtifactSource,
): Promise<Decision<TreesPlanDetails>> {
  const trees = restoredTrees(place, from);
  const facts = parseTreesFacts(from.facts, from.name);
  if (trees.length === 0) throw nothingToRestore(place, facts);
  const warnings = facts.trees
    .filter(({ path }) => !trees.some(({ tree }) => tree.path === path))
    .map(
      ({ path }) =>
        `${path} is in the snapshot and is not restored: ${place.name} in tars.yaml does not name it`,
    );
  const leftByRestores = new Map<string, readonly string[]>();
  const steps: string[] = [];
  const space: { path: string; sizeBytes: number }[] = [];
  for (const restored of trees) {
    const { live } = restored.tree;
    const found = await compareForPlan(restored, place, source, ctx);
    steps.push(...stepsFor(live, found));
    warnings.push(...(await absentWarnings(restored)));
    const left = found.kept.filter(({ reason }) => reason === 'restore').map(({ path }) => path);
    leftByRestores.set(restored.tree.path, left);
    const { sizeBytes = found.sizeBytes } = restored.captured;
    space.push({ path: await nearestExisting(place.keepDirectory ? live : dirname(live)), sizeBytes });
  }
  const folders = trees.map(({ prefix }) => prefix);
  const inFolders = (path: string): boolean => folders.some((folder) => path.startsWith(`${folder}/`));
  const plan: RestorePlan = {
    ...{ component: place.name, kind: place.kind, steps, warnings, space },
    artifacts: from.artifacts.map(({ path }) => path).filter(inFolders),
    artifactTrees: folders,
    requires: {
      stopped: [...(place.service === undefined ? [] : [place.service]), ...place.sharedWith],
      running: [],
    },
  };
  return { plan, details: { restoreId, from, leftByRestores } };
}

/** What the snapshot leaves out, such as files with secrets, and what is not here either. */
async function absentWarnings({ tree: { live }, captured }: RestoredTree): Promise<readonly string[]> {
  const absent: string[] = [];
  for (const path of captured.skipped) if (!(await isThere(join(live, path)))) absent.push(path);
  if (absent.length === 0) return [];
  const names = someOf(absent.slice(0, namedMax), absent.length);
  return [
    `The snapshot does not hold ${names} of ${live}, and ${live} does not have it: write it again by hand`,
  ];
}

/** A success would be taken for a restore. */
function nothingToRestore({ name }: TreesPlace, { trees }: TreesFacts): RestoreRefusedError {
  const paths = trees.map(({ path }) => path).join(', ');
  return new RestoreRefusedError(
    `Nothing of ${name} can be restored: the snapshot holds ${paths}, but ${name} in tars.yaml names other directories`,
    {
      hint: `Write the directories of the snapshot under paths: of ${name} in tars.yaml, or leave it out with --skip ${name}.`,
    },
  );
}

interface Found {
  files: number;
  sizeBytes: number;
  /** Live, and not in the snapshot. */
  appeared: number;
  readonly kept: { readonly path: string; readonly reason: OutsideReason }[];
}

async function compareForPlan(
  restored: RestoredTree,
  place: TreesPlace,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Found> {
  const found: Found = { files: 0, sizeBytes: 0, appeared: 0, kept: [] };
  using live = await openIfThere(restored.tree.live);
  const scope = live === undefined ? undefined : await scopeOf(restored, place, live);
  // Left out there, and to be replaced all the same where the snapshot has it.
  const outside = new Map<string, OutsideReason>();
  const rules = {
    leaveOut(path: string, stats: Parameters<NonNullable<typeof scope>['outside']>[1]): boolean {
      const reason = scope?.outside(path, stats);
      if (reason !== undefined) outside.set(path, reason);
      return reason !== undefined;
    },
    onFailure: (path: string): void => void outside.set(path, 'not-captured'),
  };
  for await (const entry of joinTree(folderOf(restored, source), live?.directory, rules, ctx.signal))
    note(entry, found, outside);
  for (const [path, reason] of outside) found.kept.push({ path, reason });
  return found;
}

function note(
  { path, captured, live }: JoinedEntry,
  found: Found,
  outside: Map<string, OutsideReason>,
): void {
  if (captured?.type === 'file') {
    found.files += 1;
    found.sizeBytes += captured.sizeBytes;
  }
  if (captured === undefined && live !== undefined) found.appeared += 1;
  // Of a directory that is excluded by now, what the snapshot holds is replaced, and the rest stays.
  const reason = captured === undefined ? undefined : outside.get(path);
  if (reason === 'not-captured' || (reason === 'excluded' && captured?.type !== 'directory'))
    outside.delete(path);
}

const reasons: Readonly<Record<OutsideReason, string>> = {
  excluded: 'excluded',
  restore: 'left by an earlier restore',
  'kept-out': 'belongs to tars or to another component',
  mounted: 'another file system',
  'not-captured': 'not in the snapshot',
};

function stepsFor(live: string, { files, appeared, kept }: Found): readonly string[] {
  const steps = [`Restore ${counted(files, 'file')} into ${live}; the present content is moved aside`];
  if (appeared > 0)
    steps.push(
      `Also move aside ${counted(appeared, 'entry', 'entries')} of ${live} that the snapshot does not hold`,
    );
  if (kept.length > 0) {
    const named = kept.slice(0, namedMax).map(({ path, reason }) => `${path} (${reasons[reason]})`);
    steps.push(`Leave in place in ${live}: ${someOf(named, kept.length)}`);
  }
  return steps;
}

async function openIfThere(path: string): Promise<OpenedPath | undefined> {
  if (!(await isThere(path))) return undefined;
  try {
    return await openPath(path);
  } catch (cause) {
    if (!isMissingPath(cause)) throw cause;
    throw new RestoreRefusedError(
      `${path} is a directory in the snapshot, but here it is a file, or a link that does not lead to a directory`,
      {
        hint: 'If it leads to a disk that is not mounted, mount that disk. Otherwise move it away. Then run restore again.',
        cause,
      },
    );
  }
}
