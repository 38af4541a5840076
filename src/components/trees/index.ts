import { access, constants } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { ConfigurationError, ServiceUnavailableError } from '../../model/errors.ts';
import type { RestorePlan } from '../../model/restore-plan.ts';
import type { Component, ComponentProbe } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { leftoversAt } from '../files/leftovers.ts';
import { removeStagedBeside } from '../files/path-swap.ts';
import { passedOver, prepareTreesCapture, requireDirectory, type Tree } from './capture.ts';
import { planTreesRestore, type TreesPlace, type TreesPlanDetails } from './plan.ts';
import { stageTreesRestore } from './stage.ts';
import { treesGeneration } from './swap.ts';
import { verifyTrees } from './verify.ts';
import { walkTree } from './walk.ts';

const kind = 'files';

/** Which directories are captured, whole. */
export interface TreesOptions {
  readonly name: string;
  /** Stopped while its directories are exchanged. */
  readonly service: string | undefined;
  readonly trees: readonly Tree[];
  /** The directories are mounted elsewhere, such as in a container, and must not be renamed themselves. */
  readonly keepDirectory?: boolean;
}

/** Directories with files of any kind, captured while they are used. */
export function createTreesComponent(options: TreesOptions): Component {
  const { name, service, trees, keepDirectory = false } = options;
  const place: TreesPlace = { name, kind, service, trees, keepDirectory };
  return {
    ...{ name, kind, service },
    probe: (ctx) => probe(trees, ctx),
    async ready() {
      for (const { live } of trees) {
        await access(live, constants.R_OK | constants.X_OK).catch((cause: unknown) => {
          throw new ServiceUnavailableError(`${live} is not there, or not to be read`, { cause });
        });
      }
    },
    leftovers: () => leftoversAt(trees.map(({ live }) => live)),
    async prepare() {
      for (const { live } of trees) {
        if (!isAbsolute(live)) throw new ConfigurationError(`${name}: ${live} is not an absolute path`);
        await requireDirectory(live);
      }
      return prepareTreesCapture(name, trees);
    },
    planRestore: (from, restoreOptions) => planTreesRestore(place, from, restoreOptions),
    stage: (plan, source, ctx) =>
      stageTreesRestore(place, plan as RestorePlan<TreesPlanDetails>, source, ctx),
    async removeStaged(restoreId) {
      for (const { live } of trees) await removeStagedBeside(live, restoreId);
    },
    generation: treesGeneration,
    verify: (from, ctx) => verifyTrees(place, from, ctx),
    places: () => Promise.resolve(trees.map(({ path }) => ({ tree: path }))),
  };
}

async function probe(trees: readonly Tree[], { signal }: OperationContext): Promise<ComponentProbe> {
  const warnings: string[] = [];
  let files = 0;
  let sizeBytes = 0;
  for (const tree of trees) {
    const { live } = tree;
    const root = await requireDirectory(live);
    const onFailure = (_path: string, { message }: Error): void => void warnings.push(message);
    for await (const { stats } of walkTree(root, passedOver(tree), onFailure, signal)) {
      if (!stats.isFile()) continue;
      files += 1;
      sizeBytes += Number(stats.size);
    }
  }
  const where = trees.map(({ path }) => path).join(', ');
  return {
    ...{ serverVersion: undefined, sizeBytes, warnings },
    summary: `${files} ${files === 1 ? 'file' : 'files'} in ${where}`,
  };
}
