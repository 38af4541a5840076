import { TarsError } from '../../model/errors.ts';
import type { Manifest, ManifestArtifact } from '../../model/manifest.ts';
import { isOwnedBy, shortId, type SnapshotOwner } from '../../model/snapshot.ts';
import type { FileIdentity } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { BlobReader } from '../blobs/blob-reader.ts';
import { parseGoTime } from '../format/go-time.ts';
import type { TreeNode } from '../format/tree.ts';
import { ListedArtifacts } from './listed-artifacts.ts';
import type { OpenedRepository } from '../open.ts';
import { listSnapshots, summarize, type NamedSnapshot } from './snapshot-list.ts';
import { RepositorySnapshotSource } from './snapshot-source.ts';
import { SnapshotTree } from './snapshot-tree.ts';

/**
 * A file that changes within the granularity of time stamps after it was read keeps the time stamp that it had: two
 * seconds on the coarsest file systems, some milliseconds on others.
 */
const timestampMarginNs = 2_000_000_000n;

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
  /** By the component whose artifacts they list. */
  readonly #lists: ReadonlyMap<string, ListedArtifacts>;
  /** What was older than this when it was read would have another time stamp if it had changed since. */
  readonly #provenBeforeNs: bigint;

  private constructor(
    reader: BlobReader,
    tree: SnapshotTree,
    { components, startedAt }: Manifest,
    lists: ReadonlyMap<string, ListedArtifacts>,
  ) {
    this.#reader = reader;
    this.#tree = tree;
    const artifacts = components.flatMap((component) => component.artifacts);
    this.#artifacts = new Map(artifacts.map((artifact) => [artifact.path, artifact]));
    this.#lists = lists;
    // Everything was read after that.
    this.#provenBeforeNs = parseGoTime(startedAt) - timestampMarginNs;
  }

  /** Undefined, with a warning, when its manifest cannot be read: everything is then captured again. */
  static async open(
    reader: BlobReader,
    snapshot: NamedSnapshot,
    ctx: OperationContext,
  ): Promise<ParentSnapshot | undefined> {
    try {
      const source = new RepositorySnapshotSource(reader, snapshot, () => Promise.resolve());
      const manifest = await source.manifest(ctx.signal);
      const tree = new SnapshotTree(reader, snapshot);
      const lists = new Map<string, ListedArtifacts>();
      for (const { name, artifactList } of manifest.components) {
        if (artifactList === undefined) continue;
        lists.set(name, await ListedArtifacts.open(reader, tree, artifactList, ctx.signal));
      }
      return new ParentSnapshot(reader, tree, manifest, lists);
    } catch (error) {
      if (!(error instanceof TarsError) || error.code === 'interrupted') throw error;
      ctx.log.warn(`Snapshot ${shortId(snapshot.id)} is not used as the parent: ${error.message}`);
      return undefined;
    }
  }

  /** The artifact as the manifest, or a list, has it. @throws CorruptionError when the list is damaged */
  async artifact(path: string, signal: AbortSignal): Promise<ManifestArtifact | undefined> {
    const list = this.#lists.get(path.slice(0, path.indexOf('/')));
    return list === undefined ? this.#artifacts.get(path) : list.find(path, signal);
  }

  /** The artifact at `path` when it is of the same, unchanged file and nothing of it is missing. */
  async unchanged(
    path: string,
    identity: FileIdentity,
    signal: AbortSignal,
  ): Promise<ReusableArtifact | undefined> {
    const artifact = await this.artifact(path, signal);
    if (artifact?.sizeBytes !== identity.sizeBytes) return undefined;
    const node = await this.#tree.find(path, signal);
    if (node?.type !== 'file' || !hasIdentity(node, identity) || this.#mayHaveChanged(node)) return undefined;
    return this.#reader.hasAll(node.content ?? Buffer.alloc(0)) ? { node, artifact } : undefined;
  }

  /** git calls such an entry racily clean. */
  #mayHaveChanged({ mtimeNs, ctimeNs }: TreeNode): boolean {
    return mtimeNs >= this.#provenBeforeNs || ctimeNs >= this.#provenBeforeNs;
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
