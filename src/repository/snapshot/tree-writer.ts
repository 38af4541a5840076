import { createHash } from 'node:crypto';
import { encodeLossless } from '../../model/byte-text.ts';
import { TarsError } from '../../model/errors.ts';
import { pathMaxBytes } from '../../model/limits.ts';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { SealingKey } from '../format/crypto.ts';
import { encodeTree, type TreeNode } from '../format/tree.ts';
import { PackBuilder, packMaxBytes, type FinishedPack } from '../seal/pack-builder.ts';

interface Directory {
  readonly kind: 'directory';
  /** The directory's own node but for its subtree; undefined while it is only somebody's parent. */
  node: TreeNode | undefined;
  readonly children: Map<string, Directory | Leaf>;
}

/** What gets no more children: a file, or a directory whose tree is stored. */
interface Leaf {
  readonly kind: 'leaf';
  readonly node: TreeNode;
}

/** Header and sealing of a pack that is larger than usual because a single tree is. */
const oversizeSlackBytes = 4096;

/** The entries of a snapshot under construction. */
export class TreeDraft {
  readonly #writer: TreeWriter;
  readonly #parents: Omit<TreeNode, 'name'>;
  readonly #root: Directory = newDirectory();

  /** @param parents what directories look like that were never recorded themselves */
  constructor(writer: TreeWriter, parents: Omit<TreeNode, 'name'>) {
    this.#writer = writer;
    this.#parents = parents;
  }

  /** Puts a file, symlink or (with `node.type` `dir`) directory at `path`. @throws TarsError when it is taken */
  add(path: string, node: Omit<TreeNode, 'name'>): void {
    const names = path.split('/');
    if (names.some((name) => name === '' || name === '.' || name === '..')) {
      throw new TarsError('internal', `"${path}" is not a path inside a snapshot`);
    }
    requirePathLength(path);
    const name = names.pop() ?? '';
    let parent = this.#root;
    for (const step of names) parent = this.#enter(parent, step, path);
    const named = { ...node, name };
    const existing = parent.children.get(name);
    if (node.type !== 'dir' && !existing) {
      parent.children.set(name, { kind: 'leaf', node: named });
      return;
    }
    const directory = existing ?? newDirectory();
    if (node.type !== 'dir' || directory.kind === 'leaf' || directory.node) {
      throw new TarsError('internal', `"${path}" is in the snapshot already`);
    }
    directory.node = named;
    parent.children.set(name, directory);
  }

  #enter(parent: Directory, name: string, path: string): Directory {
    const existing = parent.children.get(name);
    if (existing?.kind === 'leaf') {
      throw new TarsError('internal', `A parent of "${path}" is already finished, or is not a directory`);
    }
    const directory = existing ?? newDirectory();
    parent.children.set(name, directory);
    return directory;
  }

  /** Stores the tree of a directory, with those below, and forgets its entries. Nothing can be added to it then. */
  async finish(path: string): Promise<void> {
    const names = path.split('/');
    const name = names.pop() ?? '';
    let parent: Directory | Leaf | undefined = this.#root;
    for (const step of names) parent = parent?.kind === 'directory' ? parent.children.get(step) : undefined;
    if (parent?.kind !== 'directory') return;
    const directory = parent.children.get(name);
    if (directory?.kind !== 'directory') return;
    parent.children.set(name, { kind: 'leaf', node: await this.#saved(name, directory) });
  }

  /**
   * Stores all trees that are not stored yet, the deepest first. Resolves with the root's id.
   * @param above names of the directories the draft lies in, outermost first
   */
  async save(above: readonly string[]): Promise<string> {
    let subtree = await this.#saveChildren(this.#root);
    for (const name of above.toReversed()) {
      subtree = await this.#writer.save(encodeTree([{ ...this.#parents, name, subtree }]));
    }
    return subtree;
  }

  async #saved(name: string, directory: Directory): Promise<TreeNode> {
    const subtree = await this.#saveChildren(directory);
    return { ...(directory.node ?? { ...this.#parents, name }), subtree };
  }

  async #saveChildren({ children }: Directory): Promise<string> {
    const nodes: TreeNode[] = [];
    for (const [name, child] of children) {
      nodes.push(child.kind === 'leaf' ? child.node : await this.#saved(name, child));
    }
    return this.#writer.save(encodeTree(nodes));
  }
}

/** A reader refuses longer ones. */
function requirePathLength(path: string): void {
  const lengthBytes = path.length * 3 < pathMaxBytes ? 0 : encodeLossless(path).length;
  if (lengthBytes <= pathMaxBytes) return;
  throw new TarsError(
    'capture-failed',
    `The path ${path.slice(0, 100)}… has ${lengthBytes} bytes; readers accept at most ${pathMaxBytes}`,
    { hint: 'Move it to a shorter path, or exclude it.' },
  );
}

function newDirectory(): Directory {
  return { kind: 'directory', node: undefined, children: new Map() };
}

/** How trees are sealed and stored. */
interface TreeWriterOptions {
  readonly key: SealingKey;
  /** zstd's; 0 for none. */
  readonly compressionLevel: number;
  readonly index: BlobIndex;
  readonly store: (pack: FinishedPack, bytes: Uint8Array) => Promise<void>;
}

/** Stores tree blobs, in packs of their own as format version 2 demands. */
export class TreeWriter {
  readonly #options: TreeWriterOptions;
  readonly #builder: PackBuilder;
  #buffer: Buffer | undefined;
  /** One tree after the other: there is one buffer. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: TreeWriterOptions) {
    this.#options = options;
    this.#builder = new PackBuilder(options.key, 'tree', options.compressionLevel);
  }

  /** Returns the tree's id; stores nothing when it is known. May be called concurrently. */
  save(tree: Buffer): Promise<string> {
    return this.#inTurn(() => this.#save(tree));
  }

  async #save(tree: Buffer): Promise<string> {
    const id = createHash('sha256').update(tree).digest();
    if (this.#options.index.announce(id, 'tree')) {
      if (this.#builder.isFullFor(tree.length)) await this.#flush();
      this.#buffer ??= Buffer.allocUnsafeSlow(Math.max(packMaxBytes, tree.length + oversizeSlackBytes));
      this.#builder.add(this.#buffer, id, tree, true);
    }
    return id.toString('hex');
  }

  /** Stores what is not stored yet. */
  flush(): Promise<void> {
    return this.#inTurn(() => this.#flush());
  }

  async #flush(): Promise<void> {
    if (this.#builder.isEmpty || !this.#buffer) return;
    const buffer = this.#buffer;
    this.#buffer = undefined;
    const pack = this.#builder.finish(buffer);
    await this.#options.store(pack, buffer.subarray(0, pack.lengthBytes));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}
