import { encodeLossless } from '../model/byte-text.ts';
import { CorruptionError } from '../model/errors.ts';
import type { BlobReader } from './blob-reader.ts';
import { decodeTree, treeProblems, type TreeNode } from './format/tree.ts';
import { stackPath, stackOf, type NamedSnapshot } from './snapshot-list.ts';

/** Trees kept decoded: enough for a deep path, few enough for large directories. */
const treesKept = 16;

/** Finds nodes by their path below the snapshot's root. */
export class SnapshotTree {
  readonly #reader: BlobReader;
  readonly #snapshot: NamedSnapshot;
  readonly #kept = new Map<string, readonly TreeNode[]>();

  constructor(reader: BlobReader, snapshot: NamedSnapshot) {
    this.#reader = reader;
    this.#snapshot = snapshot;
  }

  /**
   * The nodes of a directory in byte order of their names.
   * @throws CorruptionError
   */
  async nodes(treeId: string, signal: AbortSignal): Promise<readonly TreeNode[]> {
    const kept = this.#kept.get(treeId);
    if (kept) return kept;
    const nodes = decodeTree(await this.#reader.read(Buffer.from(treeId, 'hex'), 'tree', signal), treeId);
    const [problem] = treeProblems(nodes);
    if (problem !== undefined) throw new CorruptionError(`In tree ${treeId} ${problem}`);
    const named = nodes.map((node) => ({ node, bytes: encodeLossless(node.name) }));
    named.sort((a, b) => Buffer.compare(a.bytes, b.bytes));
    const sorted = named.map(({ node }) => node);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size >= treesKept && oldest !== undefined) this.#kept.delete(oldest);
    this.#kept.set(treeId, sorted);
    return sorted;
  }

  /** The tree of the root: below `/tars/<stack>` in what tars wrote, the very root otherwise. */
  async rootTree(signal: AbortSignal): Promise<string> {
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
      const nodes: readonly TreeNode[] = await this.nodes(directory, signal);
      node = nodes.find((candidate) => candidate.name === name);
      directory = node?.subtree;
    }
    return node;
  }
}
