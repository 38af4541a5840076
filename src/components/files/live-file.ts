import { closeSync, constants, fstatSync, type BigIntStats } from 'node:fs';
import { isSameFile, type OpenDirectory } from '../../disk/open-directory.ts';
import type { ArtifactAttributes, ArtifactSink } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import { attributesOf } from '../paths/file-bytes.ts';
import { attributesAt } from './tree/attributes.ts';
import { diskBytesOf, fileIdentity, hasVanished, type FileEntry } from './tree/entry.ts';
import { causeOf, ChangedError, FileBody, readBufferBytes, ReadError } from './tree/file-body.ts';
import type { TreeSink } from './tree-sink.ts';

/** How often a file that changes is read before it is kept as it was read last. */
const readsMax = 3;

/** A file where it lies. */
export interface LiveFile {
  readonly entry: FileEntry;
  readonly parent: OpenDirectory;
  readonly name: string;
  /** For messages. */
  readonly about: string;
}

/**
 * Reads a file as it is now into the sink.
 * @returns what it was then; undefined when it could not be captured, which is recorded unless it is gone
 */
export async function writeLiveFile(
  { entry, parent, name, about }: LiveFile,
  tree: TreeSink,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<BigIntStats | undefined> {
  const { path, identity } = entry;
  let descriptor: number | undefined;
  try {
    descriptor = parent.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
    const opened = fstatSync(descriptor, { bigint: true });
    // What took its place is captured the next time.
    if (!opened.isFile()) return undefined;
    const isSame = isSameFile({ dev: identity.deviceId ?? opened.dev, ino: identity.inode }, opened);
    const attributes = isSame ? entry.attributes : attributesAgain(path, parent, name, opened, tree);
    return await readInto({ path, descriptor, about, attributes }, tree, sink, ctx);
  } catch (error) {
    if (ctx.signal.aborted) throw error;
    const isOfReading = descriptor === undefined || causeOf(error, ReadError) !== undefined;
    if (!isOfReading) throw error;
    if (!hasVanished(error)) tree.missing(path, causeOf(error, ReadError) ?? error);
    return undefined;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function attributesAgain(
  path: string,
  parent: OpenDirectory,
  name: string,
  stats: BigIntStats,
  tree: TreeSink,
): ArtifactAttributes {
  try {
    return attributesAt(parent.at(name), stats);
  } catch (error) {
    if (!hasVanished(error)) tree.missing(path, error);
    return attributesOf(stats);
  }
}

interface OpenedFile {
  readonly path: string;
  readonly descriptor: number;
  readonly about: string;
  readonly attributes: ArtifactAttributes;
}

/** Reads a file again that changes meanwhile. */
async function readInto(
  { path, descriptor, about, attributes: { extended } }: OpenedFile,
  tree: TreeSink,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<BigIntStats> {
  for (let reads = 1; ; reads++) {
    const stats = fstatSync(descriptor, { bigint: true });
    const isLast = reads === readsMax;
    const body = new FileBody(descriptor, about, stats, isLast, ctx.signal);
    const identity = fileIdentity(stats);
    try {
      await sink.write(tree.artifact(path), body.bytes(), {
        attributes: { ...attributesOf(stats), ...(extended === undefined ? {} : { extended }) },
        chunking: chunkingOf(identity.sizeBytes),
        // An archive begins an entry of known size at once, and then it could not be read again.
        ...(sink.encrypted && !isLast ? { sizeBytes: identity.sizeBytes, identity } : {}),
        signal: ctx.signal,
      });
      tree.count(diskBytesOf(stats));
      if (body.hasChanged) tree.changed(path);
      return stats;
    } catch (error) {
      if (ctx.signal.aborted || causeOf(error, ChangedError) === undefined) throw error;
    }
  }
}

export const chunkingOf = (sizeBytes: number): 'stream' | 'small' =>
  sizeBytes > readBufferBytes ? 'stream' : 'small';
