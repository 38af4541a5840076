import { CorruptionError } from '../../model/errors.ts';
import { shortId } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import { BlobIndex, type BlobLocation } from '../blobs/blob-index.ts';
import type { BlobReader } from '../blobs/blob-reader.ts';
import { enumerate, isUnreadable, notInterrupted, type Findings } from './findings.ts';
import type { DamagedBlob } from './pack.ts';
import type { BlobType } from '../format/pack.ts';
import type { FurtherCopies } from '../blobs/further-copies.ts';
import type { SnapshotFile } from '../format/snapshot-file.ts';
import { decodeTree, treeProblems, type TreeNode } from '../format/tree.ts';

const idBytes = 32;

/**
 * Knows which blobs cannot be read whole: not indexed, or each copy in a missing or shortened pack, or found damaged.
 */
export class BlobHealth {
  readonly #blobs: BlobIndex;
  readonly #packSizes: ReadonlyMap<string, number>;
  /** Whichever copy is read. */
  readonly #damaged = new BlobIndex();
  readonly #damagedCopies = new Set<string>();
  readonly #damagedPacks = new Set<string>();
  #copies: FurtherCopies | undefined;

  /** @param packSizes the pack files that are there */
  constructor(blobs: BlobIndex, packSizes: ReadonlyMap<string, number>) {
    this.#blobs = blobs;
    this.#packSizes = packSizes;
  }

  /** No copy of the blob can be read whole. */
  condemn(id: Uint8Array, type: BlobType): void {
    this.#damaged.announce(id, type);
  }

  /** A pack does not hold these blobs as it should; none where only the pack itself is not what it should be. */
  condemnPack(packId: string, blobs: readonly DamagedBlob[]): void {
    this.#damagedPacks.add(packId);
    for (const { id, type } of blobs) this.#damagedCopies.add(copyKey(packId, type, id));
  }

  /** Packs that are there and are not what they should be. */
  get damagedPacks(): ReadonlySet<string> {
    return this.#damagedPacks;
  }

  /** From now on a blob counts as whole when any of its copies does. */
  consider(copies: FurtherCopies): void {
    this.#copies = copies;
  }

  locate(id: Uint8Array, type: BlobType): BlobLocation | undefined {
    return this.#blobs.lookup(id, type);
  }

  isBad(id: Uint8Array, type: BlobType): boolean {
    const place = this.#blobs.lookup(id, type);
    if (place === undefined || this.#damaged.has(id, type)) return true;
    const places = [place, ...(this.#copies?.of(id, type) ?? [])];
    return places.every((each) => this.#isBadCopy(each, id, type));
  }

  #isBadCopy({ packId, offsetBytes, lengthBytes }: BlobLocation, id: Uint8Array, type: BlobType): boolean {
    if (offsetBytes + lengthBytes > (this.#packSizes.get(packId) ?? -1)) return true;
    return this.#damagedCopies.has(copyKey(packId, type, Buffer.from(id).toString('hex')));
  }
}

const copyKey = (packId: string, type: BlobType, id: string): string => `${packId} ${type} ${id}`;

/** Walks the trees of snapshots, each tree once however many snapshots share it. */
export class TreeCheck {
  readonly #reader: BlobReader;
  readonly #health: BlobHealth;
  readonly #findings: Findings;
  readonly #ctx: OperationContext;
  readonly #seen = new BlobIndex();

  constructor(reader: BlobReader, health: BlobHealth, findings: Findings, ctx: OperationContext) {
    this.#reader = reader;
    this.#health = health;
    this.#findings = findings;
    this.#ctx = ctx;
  }

  /** Loads every tree below `root` and looks up every blob it refers to. */
  async walk(root: string): Promise<void> {
    const pending = [root];
    for (let tree = pending.pop(); tree !== undefined; tree = pending.pop()) {
      const id = Buffer.from(tree, 'hex');
      if (!this.#seen.announce(id, 'tree')) continue;
      const nodes = await this.#findings.examine(`tree ${tree}`, 'tree-damaged', () =>
        this.#examineTree(tree),
      );
      if (nodes === undefined) continue;
      const problems = [...treeProblems(nodes), ...nodes.flatMap((node) => this.#examineNode(node))];
      if (problems.length > 0) {
        this.#findings.add('error', `tree ${tree}`, 'tree-incomplete', enumerate(problems));
      }
      for (const { type, subtree } of nodes)
        if (type === 'dir' && subtree !== undefined) pending.push(subtree);
    }
  }

  /** Reports for every snapshot which of its paths cannot be restored. Call it when anything is bad at all. */
  async reportAffected(snapshots: ReadonlyMap<string, SnapshotFile>): Promise<void> {
    const clean = new BlobIndex();
    for (const [name, snapshot] of snapshots) {
      const bad = await this.#affectedPaths(snapshot.tree, '', clean);
      if (bad.length === 0) continue;
      this.#findings.add(
        'error',
        `snapshots/${name}`,
        'snapshot-affected',
        `Snapshot ${shortId(name)} cannot be restored completely: ${enumerate(bad, bad.length, ', ')}`,
      );
    }
  }

  /** Paths below the tree that need a bad blob; `clean` spares the trees of earlier snapshots. */
  async #affectedPaths(tree: string, path: string, clean: BlobIndex): Promise<string[]> {
    const id = Buffer.from(tree, 'hex');
    if (clean.has(id, 'tree')) return [];
    if (this.#health.isBad(id, 'tree')) return [`${path}/`];
    const nodes = await this.#load(tree).catch(damaged);
    if (nodes === undefined) return [`${path}/`];
    const bad: string[] = [];
    for (const node of nodes) {
      const own = `${path}/${node.name}`;
      if (node.type === 'dir' && node.subtree !== undefined) {
        // Not as arguments: a call takes only a limited number.
        for (const below of await this.#affectedPaths(node.subtree, own, clean)) bad.push(below);
      } else if (this.#badBlobs(node).length > 0) bad.push(own);
    }
    if (bad.length === 0) clean.announce(id, 'tree');
    return bad;
  }

  /** As {@link #load}; a tree that is damaged is condemned with its pack. */
  async #examineTree(tree: string): Promise<TreeNode[]> {
    try {
      return await this.#load(tree);
    } catch (error) {
      if (error instanceof CorruptionError) {
        const id = Buffer.from(tree, 'hex');
        const place = this.#health.locate(id, 'tree');
        if (place !== undefined) this.#health.condemnPack(place.packId, [{ id: tree, type: 'tree' }]);
        this.#health.condemn(id, 'tree');
      }
      throw error;
    }
  }

  /** @throws CorruptionError when the tree is not indexed, damaged or no tree */
  async #load(tree: string): Promise<TreeNode[]> {
    return decodeTree(await this.#reader.read(Buffer.from(tree, 'hex'), 'tree', this.#ctx.signal), tree);
  }

  #examineNode(node: TreeNode): string[] {
    const name = JSON.stringify(node.name);
    if (node.type === 'file' && node.content === undefined) return [`file ${name} has no list of blobs`];
    const missing = this.#missingBlobs(node);
    return missing.length === 0
      ? []
      : [`file ${name} needs ${missing.length} blobs that are in no index, such as ${missing[0] ?? ''}`];
  }

  #missingBlobs(node: TreeNode): string[] {
    return contentIds(node).flatMap((id) =>
      this.#health.locate(id, 'data') === undefined ? [id.toString('hex')] : [],
    );
  }

  #badBlobs(node: TreeNode): Buffer[] {
    return contentIds(node).filter((id) => this.#health.isBad(id, 'data'));
  }
}

function contentIds({ content = Buffer.alloc(0) }: TreeNode): Buffer[] {
  return Array.from({ length: content.length / idBytes }, (_, i) =>
    content.subarray(i * idBytes, (i + 1) * idBytes),
  );
}

/**
 * Both were reported when the tree was walked: one that is damaged, and one that cannot be read, of which nothing is
 * known. @throws TarsError when it is an interruption
 */
function damaged(error: unknown): [] | undefined {
  return isUnreadable(notInterrupted(error, 'Cannot read a tree')) ? [] : undefined;
}
