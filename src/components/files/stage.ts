import { throwIfAborted } from '../../model/abort.ts';
import { toTarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { beginExchange, removeStagedTree, type BegunExchange } from './exchange/exchange.ts';
import { ArtifactHashes } from './tree/hashes.ts';
import type { TreesPlanDetails } from './plan.ts';
import { folderOf, restoredTrees, scopeOf, type RestoredTree, type TreesPlace } from './restoring.ts';
import { TreeStaging, type StagingContext } from './staging.ts';
import { swapTree } from './swap.ts';
import { UnsetList } from './unset.ts';
import { wayBackLines } from './exchange/way-back.ts';

interface StagedTree {
  readonly restored: RestoredTree;
  readonly begun: BegunExchange;
}

/** Writes the snapshot's trees beside the live ones; on failure nothing staged remains. */
export async function stageTreesRestore(
  place: TreesPlace,
  { restoreId, from, leftByRestores }: TreesPlanDetails,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const staged: StagedTree[] = [];
  const findings: Finding[] = [];
  const unset = new UnsetList();
  await using hashes = new ArtifactHashes(from, source, ctx.signal);
  const shared: Omit<StagingContext, 'onDamage'> = {
    ...{ source, unset, ctx, hashes, hardLinks: new Map() },
  };
  const options = {
    keepDirectory: place.keepDirectory,
    keepsPrevious: from.incomplete !== undefined && from.incomplete.count > from.incomplete.named.length,
  };
  const wayBack: string[] = [];
  try {
    for (const tree of restoredTrees(place, from)) {
      const left = leftByRestores.get(tree.tree.path) ?? [];
      const restored = { ...tree, notCaptured: [...tree.notCaptured, ...left] };
      const begun = await beginExchange(restored.tree.live, restoreId, options);
      staged.push({ restored, begun });
      const onDamage = (path: string, problem: string): void => {
        const message = `The staged file ${path} of ${restored.tree.path} ${problem}`;
        findings.push({ severity: 'error', subject: place.name, code: 'file-damaged', message });
      };
      await new TreeStaging({ ...shared, onDamage }, folderOf(restored, source), begun.content).run();
      wayBack.push(...(await wayBackLines(begun, (live) => scopeOf(restored, place, live))));
    }
  } catch (error) {
    await discard(staged);
    throwIfAborted(ctx.signal, error);
    throw toTarsError(error, `Cannot stage the files of ${place.name}`);
  }
  for (const { begun } of staged) begun[Symbol.dispose]();
  for (const warning of unset.warnings) ctx.log.warn(`${place.name}: ${warning}`);
  return {
    record: {
      ...{ component: place.name, kind: place.kind, wayBack },
      details: { version: 2, trees: staged.map(({ begun }) => begun.exchange) },
    },
    replaces: staged.map(({ restored }) => restored.tree.live),
    verify: () => Promise.resolve(findings),
    async swap() {
      const late = new UnsetList();
      for (const { restored, begun } of staged) {
        await swapTree(begun.exchange, {
          scopeOf: (live) => scopeOf(restored, place, { ...live, [Symbol.dispose]: () => undefined }),
          onUnset: (what) => late.add(what, restored.tree.live),
        });
      }
      for (const warning of late.warnings) ctx.log.warn(`${place.name}: ${warning}`);
    },
    discard: () => discard(staged),
  };
}

async function discard(staged: readonly StagedTree[]): Promise<void> {
  for (const { begun } of staged) {
    begun[Symbol.dispose]();
    await removeStagedTree(begun.exchange);
  }
}
