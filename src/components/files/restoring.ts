import type { ComponentManifest } from '../../model/manifest.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import { parseTreesFacts, treeFolder, type CapturedTree } from './facts.ts';
import type { SnapshotFolder } from './tree/joined.ts';
import { keptOutOf, TreeScope, type Tree } from './tree/scope.ts';
import type { OpenedPath } from '../../disk/open-path.ts';

/** Where a component restores to. */
export interface TreesPlace {
  readonly name: string;
  readonly kind: string;
  readonly service: string | undefined;
  /** Other services that write there. */
  readonly sharedWith: readonly string[];
  readonly trees: readonly Tree[];
  /** The directories themselves are mounted elsewhere and stay. */
  readonly keepDirectory: boolean;
  /** Absolute real paths that no component may touch, or that belong to another component. */
  readonly keepOut: readonly string[];
  /** For what must not outlive the run. */
  readonly scratchDir: string;
}

/** A captured tree that is configured here. */
export interface RestoredTree {
  readonly tree: Tree;
  readonly captured: CapturedTree;
  /** Its folder in the snapshot. */
  readonly prefix: string;
  /** Folders in that of other trees. */
  readonly others: readonly string[];
  /** Paths in it that the snapshot lacks. */
  readonly notCaptured: readonly string[];
}

/** Only directories that are configured here are restored: a snapshot cannot choose other places to write to. */
export function restoredTrees(place: TreesPlace, from: ComponentManifest): readonly RestoredTree[] {
  const { trees } = parseTreesFacts(from.facts, from.name);
  const folders = trees.map(({ path }) => treeFolder(from.name, path));
  const missing = (from.incomplete?.named ?? []).map(({ path }) => path);
  return trees
    .flatMap((captured) => {
      const tree = place.trees.find(({ path }) => path === captured.path);
      if (tree === undefined) return [];
      const prefix = treeFolder(from.name, captured.path);
      const above = captured.path === '/' ? '/' : `${captured.path}/`;
      const named = missing.filter((path) => path.startsWith(above)).map((path) => path.slice(above.length));
      const others = folders.filter((folder) => folder.startsWith(`${prefix}/`));
      return [{ tree, captured, prefix, others, notCaptured: [...named, ...captured.skipped] }];
    })
    .sort((a, b) => b.tree.path.length - a.tree.path.length);
}

export const folderOf = ({ prefix, others }: RestoredTree, source: ArtifactSource): SnapshotFolder => ({
  ...{ source, prefix, others },
});

/** The entries of the live tree that do not belong to the snapshot. */
export async function scopeOf(
  { tree, captured, notCaptured }: RestoredTree,
  place: TreesPlace,
  live: OpenedPath,
): Promise<TreeScope> {
  const { exclude: formerExclude = [] } = captured;
  const keepOut = await keptOutOf(tree, place.trees, place.keepOut);
  return TreeScope.of(
    live,
    { exclude: tree.exclude, formerExclude, notCaptured, foreignFiles: tree.foreignFiles },
    keepOut,
  );
}
