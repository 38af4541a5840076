import { throwIfAborted } from '../../model/abort.ts';
import { CorruptionError, toTarsError } from '../../model/errors.ts';
import { shortId } from '../../model/snapshot.ts';
import type { OperationContext, ProgressTask } from '../../ports/context.ts';
import { BlobIndex } from '../blobs/blob-index.ts';
import { BlobReader } from '../blobs/blob-reader.ts';
import { loadIndexFile } from '../check/indexes.ts';
import type { IndexedPack } from '../format/index-file.ts';
import { packSizeBytes, type BlobType } from '../format/pack.ts';
import { decodeTree, treeProblems } from '../format/tree.ts';
import type { OpenedRepository } from '../open.ts';
import { loadSnapshot } from '../snapshot/snapshot-list.ts';

const idBytes = 32;

/** An indexed pack as prune looks at it: 8 bytes a blob, whatever the size of the repository. */
export interface PackContent {
  readonly id: string;
  readonly type: BlobType | 'mixed';
  /** The size the file has when it is whole. */
  readonly sizeBytes: number;
  /** For each blob its ordinal in the {@link BlobIndex}, then its sealed length. */
  readonly entries: Uint32Array;
}

/** What all index files say. */
export interface IndexedContent {
  readonly index: BlobIndex;
  readonly packs: ReadonlyMap<string, PackContent>;
  /** The index files; those that say which packs are damaged last. */
  readonly names: readonly string[];
  /** Packs that a check found damaged. */
  readonly damaged: ReadonlySet<string>;
}

/**
 * Reads all index files, one in memory at a time.
 * @throws CorruptionError when one is damaged, or two describe a pack differently
 */
export async function loadIndexedContent(
  repo: OpenedRepository,
  ctx: OperationContext,
): Promise<IndexedContent> {
  const index = new BlobIndex();
  const packs = new Map<string, PackContent>();
  const damaged = new Set<string>();
  const telling = new Set<string>();
  const names = await Array.fromAsync(repo.storage.list('index', ctx.signal), ({ name }) => name);
  for (const name of names) {
    throwIfAborted(ctx.signal);
    const file = await loadIndexFile(repo, name, ctx.signal);
    for (const id of file.damaged) damaged.add(id);
    if (file.damaged.length > 0) telling.add(name);
    for (const pack of file.packs) {
      index.addPack(pack);
      const content = contentOf(pack, index);
      const known = packs.get(pack.id);
      if (known !== undefined && Buffer.compare(bytesOf(known), bytesOf(content)) !== 0) {
        throw new CorruptionError(`Two index files describe pack ${pack.id} differently`);
      }
      packs.set(pack.id, content);
    }
  }
  const ordered = [...names.filter((name) => !telling.has(name)), ...telling];
  return { index, packs, names: ordered, damaged };
}

function contentOf({ id, blobs }: IndexedPack, index: BlobIndex): PackContent {
  const entries = new Uint32Array(blobs.length * 2);
  let type: PackContent['type'] | undefined;
  for (const [i, blob] of blobs.entries()) {
    const ordinal = index.ordinal(Buffer.from(blob.id, 'hex'), blob.type);
    if (ordinal === undefined) throw new RangeError(`Blob ${blob.id} was not indexed`);
    entries.set([ordinal, blob.lengthBytes], i * 2);
    type = type === undefined || type === blob.type ? blob.type : 'mixed';
  }
  return { id, type: type ?? 'data', sizeBytes: packSizeBytes(blobs), entries };
}

const bytesOf = ({ entries }: PackContent): Uint8Array => new Uint8Array(entries.buffer);

/** By ordinal: 1 for the blobs that some snapshot needs. */
interface UsedBlobs {
  readonly used: Uint8Array;
  readonly snapshots: number;
}

/**
 * Walks the trees of all snapshots but those in `without`, each tree once however many snapshots share it.
 * @throws CorruptionError when a snapshot or tree cannot be read, or a blob is in no index: what cannot be seen
 * may be all that keeps a blob
 */
export async function findUsedBlobs(
  repo: OpenedRepository,
  index: BlobIndex,
  without: readonly string[],
  ctx: OperationContext,
): Promise<UsedBlobs> {
  const task = ctx.progress.start('Find the data that snapshots need');
  try {
    const all = await Array.fromAsync(repo.storage.list('snapshots', ctx.signal), ({ name }) => name);
    const names = all.filter((name) => !without.includes(name));
    const walk = new UsageWalk(new BlobReader(repo, index), index, task);
    for (const name of names) {
      const { file } = await loadSnapshot(repo, name, ctx.signal);
      await walk.mark(file.tree, ctx.signal).catch((error: unknown) => {
        throw affected(error, name);
      });
    }
    task.finish('ok');
    return { used: walk.used, snapshots: names.length };
  } catch (error) {
    task.finish('failed');
    throw error;
  }
}

function affected(error: unknown, snapshot: string): Error {
  const known = toTarsError(error, 'Cannot read a tree');
  if (!(known instanceof CorruptionError)) return known;
  return new CorruptionError(`Snapshot ${shortId(snapshot)} is incomplete: ${known.message}`, {
    cause: known,
  });
}

class UsageWalk {
  readonly used: Uint8Array;
  readonly #reader: BlobReader;
  readonly #index: BlobIndex;
  readonly #task: ProgressTask;

  constructor(reader: BlobReader, index: BlobIndex, task: ProgressTask) {
    this.used = new Uint8Array(index.size);
    this.#reader = reader;
    this.#index = index;
    this.#task = task;
  }

  async mark(root: string, signal: AbortSignal): Promise<void> {
    const pending = [root];
    for (let tree = pending.pop(); tree !== undefined; tree = pending.pop()) {
      throwIfAborted(signal);
      const id = Buffer.from(tree, 'hex');
      if (!this.#use(id, 'tree')) continue;
      const plaintext = await this.#reader.read(id, 'tree', signal);
      this.#task.advance(plaintext.length);
      const nodes = decodeTree(plaintext, tree);
      const [problem] = treeProblems(nodes);
      if (problem !== undefined) throw new CorruptionError(`In tree ${tree} ${problem}`);
      for (const { name, type, content, subtree } of nodes) {
        if (type === 'file' && content === undefined) {
          throw new CorruptionError(`In tree ${tree} file ${JSON.stringify(name)} has no list of blobs`);
        }
        for (let at = 0; at < (content?.length ?? 0); at += idBytes) {
          if (content !== undefined) this.#use(content.subarray(at, at + idBytes), 'data');
        }
        if (subtree !== undefined) pending.push(subtree);
      }
    }
  }

  /** False when it was known to be used. */
  #use(id: Uint8Array, type: BlobType): boolean {
    const ordinal = this.#index.ordinal(id, type);
    if (ordinal === undefined) {
      throw new CorruptionError(`The ${type} blob ${Buffer.from(id).toString('hex')} is in no index`);
    }
    if (this.used[ordinal] === 1) return false;
    this.used[ordinal] = 1;
    return true;
  }
}
