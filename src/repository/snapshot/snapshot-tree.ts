import { encodeLossless } from '../../model/byte-text.ts';
import { CorruptionError } from '../../model/errors.ts';
import type { BlobReader } from '../blobs/blob-reader.ts';
import { decodeTree, treeProblems, type TreeNode } from '../format/tree.ts';
import { stackPath, stackOf, type NamedSnapshot } from './snapshot-list.ts';

/**
 * Trees kept decoded, by the length of their JSON; in memory they take some times as much. The trees of the path that
 * was looked up last stay, however large: whoever asks in the order of a walk has each directory loaded once.
 */
const keptBytes = 8 << 20;

/** A directory's nodes in byte order of their names. */
interface LoadedTree {
  readonly nodes: readonly TreeNode[];
  readonly byName: ReadonlyMap<string, TreeNode>;
  readonly sizeBytes: number;
}

/** Finds nodes by their path below the snapshot's root. */
export class SnapshotTree {
  readonly #reader: BlobReader;
  readonly #snapshot: NamedSnapshot;
  /** The least recently used first. */
  readonly #kept = new Map<string, LoadedTree>();
  #keptBytes = 0;
  #rootTree: string | undefined;

  constructor(reader: BlobReader, snapshot: NamedSnapshot) {
    this.#reader = reader;
    this.#snapshot = snapshot;
  }

  /**
   * The nodes of a directory in byte order of their names.
   * @throws CorruptionError
   */
  async nodes(treeId: string, signal: AbortSignal): Promise<readonly TreeNode[]> {
    const { nodes } = await this.#load(treeId, signal);
    this.#forget(1);
    return nodes;
  }

  async #load(treeId: string, signal: AbortSignal): Promise<LoadedTree> {
    const tree = this.#kept.get(treeId) ?? (await this.#read(treeId, signal));
    if (!this.#kept.delete(treeId)) this.#keptBytes += tree.sizeBytes;
    this.#kept.set(treeId, tree);
    return tree;
  }

  async #read(treeId: string, signal: AbortSignal): Promise<LoadedTree> {
    const plaintext = await this.#reader.read(Buffer.from(treeId, 'hex'), 'tree', signal);
    const nodes = decodeTree(plaintext, treeId);
    const [problem] = treeProblems(nodes);
    if (problem !== undefined) throw new CorruptionError(`In tree ${treeId} ${problem}`);
    const named = nodes.map((node) => ({ node, bytes: encodeLossless(node.name) }));
    named.sort((a, b) => Buffer.compare(a.bytes, b.bytes));
    const sorted = named.map(({ node }) => node);
    const byName = new Map(sorted.map((node) => [node.name, node]));
    return { nodes: sorted, byName, sizeBytes: plaintext.length };
  }

  /** @param inUse how many of those used last stay whatever they take */
  #forget(inUse: number): void {
    for (const [id, { sizeBytes }] of this.#kept) {
      if (this.#keptBytes <= keptBytes || this.#kept.size <= inUse) return;
      this.#kept.delete(id);
      this.#keptBytes -= sizeBytes;
    }
  }

  /** The tree of the root: below `/tars/<stack>` in what tars wrote, the very root otherwise. */
  async rootTree(signal: AbortSignal): Promise<string> {
    return (this.#rootTree ??= await this.#findRootTree(signal));
  }

  async #findRootTree(signal: AbortSignal): Promise<string> {
    const { tree, paths } = this.#snapshot.file;
    const stack = stackOf(paths);
    if (stack === undefined) return tree;
    const root = await this.#descend(tree, stackPath(stack).slice(1).split('/'), signal);
    return root?.subtree ?? tree;
  }

  /** The node at `path`; undefined when there is none. */
  async find(path: string, signal: AbortSignal): Promise<TreeNode | undefined> {
    return this.#descend(await this.rootTree(signal), path.split('/'), signal);
  }

  async #descend(
    treeId: string,
    names: readonly string[],
    signal: AbortSignal,
  ): Promise<TreeNode | undefined> {
    let directory: string | undefined = treeId;
    let node: TreeNode | undefined;
    for (const name of names) {
      if (directory === undefined) return undefined;
      const tree: LoadedTree = await this.#load(directory, signal);
      node = tree.byName.get(name);
      directory = node?.subtree;
    }
    this.#forget(names.length);
    return node;
  }
}
