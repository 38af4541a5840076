import { createHash } from 'node:crypto';
import { throwIfAborted } from '../../model/abort.ts';
import { encodeLossless } from '../../model/byte-text.ts';
import { manifestMaxBytes, pathMaxBytes } from '../../model/limits.ts';
import { decodeManifest, manifestPath, type Manifest } from '../../model/manifest.ts';
import { shortId, type SnapshotSummary } from '../../model/snapshot.ts';
import { CorruptionError, TarsError } from '../../model/errors.ts';
import type { ArtifactEntry, Bytes } from '../../ports/artifacts.ts';
import type { SnapshotSource } from '../../ports/snapshot-store.ts';
import type { BlobReader } from '../blobs/blob-reader.ts';
import type { NodeType, TreeNode } from '../format/tree.ts';
import { summarize, type NamedSnapshot } from './snapshot-list.ts';
import { SnapshotTree } from './snapshot-tree.ts';

/** A directory whose entries are being listed. */
interface OpenTree {
  /** The path of its entries, up to their names. */
  readonly within: string;
  readonly nodes: Iterator<TreeNode, undefined>;
}

/** Reads a snapshot that tars or restic wrote. */
export class RepositorySnapshotSource implements SnapshotSource {
  readonly summary: SnapshotSummary;
  readonly #reader: BlobReader;
  readonly #tree: SnapshotTree;
  readonly #release: () => Promise<void>;

  /** @param release gives the lock back */
  constructor(reader: BlobReader, snapshot: NamedSnapshot, release: () => Promise<void>) {
    this.summary = summarize(snapshot);
    this.#reader = reader;
    this.#tree = new SnapshotTree(reader, snapshot);
    this.#release = release;
  }

  async *entries(prefix: string, signal: AbortSignal): AsyncGenerator<ArtifactEntry> {
    if (prefix === '') {
      yield* this.#below(await this.#tree.rootTree(signal), '', signal);
      return;
    }
    const node = await this.#tree.find(prefix, signal);
    if (!node) return;
    yield toEntry(prefix, node);
    if (node.subtree !== undefined) yield* this.#below(node.subtree, `${prefix}/`, signal);
  }

  async *#below(treeId: string, prefix: string, signal: AbortSignal): AsyncGenerator<ArtifactEntry> {
    const openTree = async (id: string, within: string): Promise<OpenTree> => {
      return { within, nodes: (await this.#tree.nodes(id, signal)).values() };
    };
    // No recursion: how deep it goes is up to whoever wrote the snapshot.
    const open = [await openTree(treeId, prefix)];
    for (let tree = open.at(-1); tree; tree = open.at(-1)) {
      throwIfAborted(signal);
      const { value: node } = tree.nodes.next();
      if (!node) {
        open.pop();
        continue;
      }
      const path = `${tree.within}${node.name}`;
      if (encodeLossless(path).length > pathMaxBytes) {
        throw new CorruptionError(
          `A path of snapshot ${shortId(this.summary.id)} is too long to be restored`,
        );
      }
      yield toEntry(path, node);
      if (node.subtree !== undefined) open.push(await openTree(node.subtree, `${path}/`));
    }
  }

  async *open(path: string, signal: AbortSignal): Bytes {
    const node = await this.#findFile(path, signal);
    yield* this.#reader.readContent(node.content, signal);
  }

  async manifest(signal: AbortSignal): Promise<Manifest> {
    const where = `snapshot ${shortId(this.summary.id)}`;
    const node = await this.#findFile(manifestPath, signal).catch((cause: unknown) => {
      if (!(cause instanceof TarsError) || cause.code !== 'artifact-not-found') throw cause;
      throw new TarsError(cause.code, `The ${where} was not written by tars: it has no ${manifestPath}`, {
        hint: `\`tars snapshots\` lists the snapshots of tars; \`restic ls ${shortId(this.summary.id)}\` lists the content of this one.`,
        cause,
      });
    });
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const chunk of this.#reader.readContent(node.content, signal)) {
      sizeBytes += chunk.length;
      if (sizeBytes > manifestMaxBytes) {
        throw new CorruptionError(`The manifest of ${where} has more than ${manifestMaxBytes} bytes`);
      }
      chunks.push(chunk);
    }
    return decodeManifest(Buffer.concat(chunks), where);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#release();
  }

  async #findFile(path: string, signal: AbortSignal): Promise<TreeNode & { content: Buffer }> {
    const node = await this.#tree.find(path, signal);
    if (node?.type === 'file') return { ...node, content: node.content ?? Buffer.alloc(0) };
    const where = `snapshot ${shortId(this.summary.id)}`;
    throw new TarsError('artifact-not-found', `There is no file "${path}" in ${where}`, {
      hint: `\`tars show ${shortId(this.summary.id)}\` lists its content.`,
    });
  }
}

const entryTypes: Readonly<Record<NodeType, ArtifactEntry['type']>> = {
  file: 'file',
  dir: 'directory',
  symlink: 'symlink',
  fifo: 'fifo',
  socket: 'socket',
  chardev: 'character-device',
  dev: 'block-device',
  irregular: 'other',
  '': 'other',
};

function toEntry(path: string, node: TreeNode): ArtifactEntry {
  const { mode, uid, gid, mtimeNs, extended, linkTarget, device } = node;
  const linkGroup = linkGroupOf(node);
  return {
    path,
    type: entryTypes[node.type],
    sizeBytes: node.sizeBytes ?? 0,
    attributes: { mode, uid, gid, mtimeNs, ...(extended === undefined ? {} : { extended }) },
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...(linkGroup === undefined ? {} : { linkGroup }),
    ...(device === undefined ? {} : { device }),
  };
}

/**
 * Inode and device tell the file. Its content does too: an inode may have been given to another file while files were
 * read one after the other, and the two must not become one.
 */
function linkGroupOf({ type, links = 1, inode, deviceId, content }: TreeNode): string | undefined {
  if (type !== 'file' || links < 2 || inode === undefined) return undefined;
  const blobs = createHash('sha256').update(content ?? '');
  return `${deviceId ?? 0n}:${inode}:${blobs.digest('hex').slice(0, 16)}`;
}
