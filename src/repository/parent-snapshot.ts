import { TarsError } from '../model/errors.ts';
import type { ManifestArtifact } from '../model/manifest.ts';
import { isOwnedBy, shortId, type SnapshotOwner } from '../model/snapshot.ts';
import type { FileIdentity } from '../ports/artifacts.ts';
import type { OperationContext } from '../ports/context.ts';
import type { BlobReader } from './blob-reader.ts';
import type { TreeNode } from './format/tree.ts';
import type { OpenedRepository } from './open.ts';
import { listSnapshots, summarize, type NamedSnapshot } from './snapshot-list.ts';
import { RepositorySnapshotSource } from './snapshot-source.ts';
import { SnapshotTree } from './snapshot-tree.ts';

/** Something a new snapshot takes over from an earlier one. */
export interface ReusableArtifact {
  readonly node: TreeNode;
  readonly artifact: ManifestArtifact;
}

/**
 * The snapshots of a stack on a host that a new one builds on: the newest and, when that is partial, the newest complete
 * one, which still has what failed since. Another host's are none: files of machines that were made from one image have
 * the same inodes and times, and other content.
 */
export async function findParents(
  repository: OpenedRepository,
  owner: SnapshotOwner,
  ctx: OperationContext,
): Promise<readonly NamedSnapshot[]> {
  const snapshots = await listSnapshots(repository, ctx);
  const own = snapshots.filter((snapshot) => isOwnedBy(summarize(snapshot), owner));
  const newest = own.at(-1);
  if (!newest?.file.tags.includes('partial')) return newest ? [newest] : [];
  const complete = own.findLast(({ file }) => !file.tags.includes('partial'));
  return complete ? [newest, complete] : [newest];
}

/** One earlier snapshot's artifacts. */
export class ParentSnapshot {
  readonly #reader: BlobReader;
  readonly #tree: SnapshotTree;
  readonly #artifacts: ReadonlyMap<string, ManifestArtifact>;

  private constructor(
    reader: BlobReader,
    tree: SnapshotTree,
    artifacts: ReadonlyMap<string, ManifestArtifact>,
  ) {
    this.#reader = reader;
    this.#tree = tree;
    this.#artifacts = artifacts;
  }

  /** Undefined, and a warning, when its manifest cannot be read: everything is captured anew then. */
  static async open(
    reader: BlobReader,
    snapshot: NamedSnapshot,
    ctx: OperationContext,
  ): Promise<ParentSnapshot | undefined> {
    try {
      const source = new RepositorySnapshotSource(reader, snapshot, () => Promise.resolve());
      const manifest = await source.manifest(ctx.signal);
      const artifacts = manifest.components.flatMap((component) => component.artifacts);
      return new ParentSnapshot(
        reader,
        new SnapshotTree(reader, snapshot),
        new Map(artifacts.map((artifact) => [artifact.path, artifact])),
      );
    } catch (error) {
      if (!(error instanceof TarsError) || error.code === 'interrupted') throw error;
      ctx.log.warn(`Not building on snapshot ${shortId(snapshot.id)}: ${error.message}`);
      return undefined;
    }
  }

  /** The artifact as the manifest has it. */
  artifact(path: string): ManifestArtifact | undefined {
    return this.#artifacts.get(path);
  }

  /** The artifact at `path` when it is of the same, unchanged file and nothing of it is missing. */
  async unchanged(
    path: string,
    identity: FileIdentity,
    signal: AbortSignal,
  ): Promise<ReusableArtifact | undefined> {
    const artifact = this.#artifacts.get(path);
    if (artifact?.sizeBytes !== identity.sizeBytes) return undefined;
    const node = await this.#tree.find(path, signal);
    if (node?.type !== 'file' || !hasIdentity(node, identity)) return undefined;
    return this.#reader.hasAll(node.content ?? Buffer.alloc(0)) ? { node, artifact } : undefined;
  }
}

function hasIdentity(node: TreeNode, identity: FileIdentity): boolean {
  return (
    (node.sizeBytes ?? 0) === identity.sizeBytes &&
    node.mtimeNs === identity.mtimeNs &&
    node.ctimeNs === identity.ctimeNs &&
    node.inode === identity.inode
  );
}
