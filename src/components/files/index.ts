import { access, constants } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute } from 'node:path';
import { throwIfAborted } from '../../model/abort.ts';
import { openPath } from '../../disk/open-path.ts';
import { ConfigurationError, messageOf, ServiceUnavailableError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { Component, ComponentProbe } from '../../ports/component.ts';
import type { SecretLook } from '../../ports/kind.ts';
import type { OperationContext } from '../../ports/context.ts';
import { leftoversAt } from '../paths/leftovers.ts';
import { singleUse } from '../restore/single-use.ts';
import { requireDirectory, TreesCapture, unmatchedInAll, unmatchedWarning } from './capture.ts';
import { removeBegun } from './exchange/exchange.ts';
import { treesGeneration } from './exchange/generation.ts';
import { planTreesRestore } from './plan.ts';
import type { TreesPlace } from './restoring.ts';
import { keptOutOf, TreeScope, type Tree } from './tree/scope.ts';
import { stageTreesRestore } from './stage.ts';
import { verifyTrees } from './verify.ts';
import { walkTree } from './tree/walk.ts';

const kind = 'files';

/** Which directories are captured, whole. */
export interface TreesOptions {
  readonly name: string;
  /** Stopped while its directories are exchanged. */
  readonly service: string | undefined;
  /** Services beside it that write there, and are stopped as well. */
  readonly sharedWith?: readonly string[] | undefined;
  readonly trees: readonly Tree[];
  /** The directories are mounted elsewhere, such as in a container, and must not be renamed themselves. */
  readonly keepDirectory?: boolean;
  /**
   * Absolute real paths that are never captured, replaced or deleted, though they lie in one of the directories: what is
   * tars' own, or another component's.
   */
  readonly keepOut?: readonly string[];
  /** Where a backup keeps what it fixes at the cut. Absent: the directory for temporary files. */
  readonly scratchDir?: string;
  /** Which files do not go into an archive in the clear. Absent: all go. */
  readonly look?: SecretLook;
}

/** Directories with files of any kind, captured while they are used, as they are at the cut. */
export function createTreesComponent(options: TreesOptions): Component {
  const { name, service, sharedWith = [], trees } = options;
  const { keepDirectory = false, keepOut = [], scratchDir = tmpdir() } = options;
  const place: TreesPlace = { name, kind, service, sharedWith, trees, keepDirectory, keepOut, scratchDir };
  return {
    ...{ name, kind, service, precaptures: true },
    probe: (ctx) => probe(place, ctx),
    async ready() {
      for (const { live } of trees) {
        await access(live, constants.R_OK | constants.X_OK).catch((cause: unknown) => {
          throw new ServiceUnavailableError(`${live} does not exist or cannot be read`, { cause });
        });
      }
    },
    async prepare() {
      for (const { live } of trees) {
        if (!isAbsolute(live)) throw new ConfigurationError(`${name}: ${live} is not an absolute path`);
        await requireDirectory(live);
      }
      return new TreesCapture({ ...place, look: options.look });
    },
    planRestore: async (from, restoreOptions, ctx, source) =>
      singleUse(await planTreesRestore(place, from, restoreOptions, ctx, source), (...stage) =>
        stageTreesRestore(place, ...stage),
      ),
    async removeStaged(restoreId) {
      for (const { live } of trees) await removeBegun(live, restoreId);
    },
    generation: treesGeneration,
    verify: (from, ctx, source) => verifyTrees(place, from, ctx, source),
    leftovers: () => leftoversAt(trees.map(({ live }) => live)),
    places: () => Promise.resolve(trees.map(({ path }) => ({ tree: path }))),
  };
}

async function probe({ trees, keepOut }: TreesPlace, ctx: OperationContext): Promise<ComponentProbe> {
  const warnings: string[] = [];
  const unmatched: (readonly string[])[] = [];
  let files = 0;
  let sizeBytes = 0;
  for (const tree of trees) {
    using opened = await openPath(tree.live);
    const scope = await TreeScope.of(opened, tree, await keptOutOf(tree, trees, keepOut));
    const steps = walkTree(opened.directory, {
      leaveOut: (path, stats) => scope.outside(path, stats) !== undefined,
      onFailure: (path, error) => void warnings.push(`Cannot read ${tree.live}/${path}: ${messageOf(error)}`),
    });
    for (const step of steps) {
      throwIfAborted(ctx.signal);
      if (step.kind !== 'entry' || !step.stats.isFile()) continue;
      files += 1;
      sizeBytes += Number(step.stats.size);
    }
    unmatched.push(scope.exclusions.unmatched);
  }
  for (const pattern of unmatchedInAll(unmatched)) warnings.push(unmatchedWarning(pattern, trees));
  const where = trees.map(({ path }) => path).join(', ');
  return {
    ...{ serverVersion: undefined, sizeBytes, warnings },
    summary: `${counted(files, 'file')} in ${where}`,
  };
}
