import { statSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../../../model/abort.ts';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import type { ArtifactSink } from '../../../ports/artifacts.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { fileBytes } from '../../paths/file-bytes.ts';
import { chunkingOf, writeLiveFile } from '../live-file.ts';
import { hasSeveralNames, type TreeSink } from '../tree-sink.ts';
import { openAlong, splitPath } from '../tree/along.ts';
import { diskBytesOf, fileIdentity, hasVanished } from '../tree/entry.ts';
import { markedEntries } from './delta.ts';
import type { MarkedDatabases } from './mark-tree.ts';
import type { MarkedFile } from './marked.ts';
import type { ScratchCopies } from './scratch-copies.ts';

const entriesPerTurn = 64;

/** One tree whose mark is written out. */
export interface ReplayOptions {
  readonly notePath: string;
  readonly deltaPath: string;
  readonly copies: ScratchCopies;
  readonly databases: MarkedDatabases;
  readonly root: OpenDirectory;
  /** For messages. */
  readonly about: string;
  readonly tree: TreeSink;
  readonly sink: ArtifactSink;
  readonly ctx: OperationContext;
  /** Told of a file whose bytes at the mark are gone. */
  readonly onMoved: (path: string) => void;
}

/** Records what the tree was at the mark. */
export async function replayTree(options: ReplayOptions): Promise<void> {
  const { notePath, deltaPath, tree, ctx } = options;
  /** Directories that are entered, the outermost first. */
  const open: string[] = [];
  const leaveUntil = async (path: string | undefined): Promise<void> => {
    for (let last = open.at(-1); last !== undefined; last = open.at(-1)) {
      if (path !== undefined && isBelow(path, last)) return;
      open.pop();
      await tree.leave(last);
    }
  };
  try {
    let entries = 0;
    for (const entry of markedEntries(notePath, deltaPath)) {
      throwIfAborted(ctx.signal);
      await leaveUntil(entry.path);
      if (entry.type === 'file') await tree.file(entry, () => writeFile(entry, options));
      else await tree.record(entry);
      if (entry.type === 'directory') open.push(entry.path);
      if (++entries % entriesPerTurn === 0) await setImmediate();
    }
    await leaveUntil(undefined);
  } finally {
    await tree.settle();
  }
}

const isBelow = (path: string, directory: string): boolean =>
  path !== directory && (directory === '' || path.startsWith(`${directory}/`));

/** False when it could not be captured. */
async function writeFile(entry: MarkedFile, options: ReplayOptions): Promise<boolean> {
  const { tree, sink, copies, databases, ctx } = options;
  const { path, attributes, identity, body, diskBytes } = entry;
  const artifact = tree.artifact(path);
  const taken = entry.database && databases.get(entry.database.of)?.taken;
  if (taken !== undefined) return entry.database?.suffix === '' && writeDatabase(entry, taken, options);
  switch (body.from) {
    case 'destination':
      await sink.bodies?.place(artifact, body.stored, { attributes, identity });
      break;
    case 'scratch': {
      const { sizeBytes } = identity;
      const { signal } = ctx;
      await sink.write(artifact, fileBytes(copies.path(body.copy), signal), {
        ...{
          attributes,
          identity,
          sizeBytes,
          signal,
          chunking: entry.database === undefined ? chunkingOf(sizeBytes) : 'pages',
        },
      });
      if (!hasSeveralNames(identity)) copies.remove(body.copy);
      break;
    }
    case 'live':
      return writeFromTree(entry, body.isProven, options);
  }
  tree.count(diskBytes);
  return true;
}

/** One file stands for the database and what lies beside it. It is another than the live one, so it has no identity. */
async function writeDatabase(
  { path, attributes }: MarkedFile,
  copy: string,
  { tree, sink, copies, ctx: { signal } }: ReplayOptions,
): Promise<boolean> {
  const source = copies.path(copy);
  const stats = statSync(source, { bigint: true });
  const options = { attributes, sizeBytes: Number(stats.size), chunking: 'pages', signal } as const;
  await sink.write(tree.artifact(path), fileBytes(source, signal), options);
  copies.remove(copy);
  tree.count(diskBytesOf(stats));
  return true;
}

async function writeFromTree(
  entry: MarkedFile,
  isProven: boolean,
  { root, about, tree, sink, ctx, onMoved }: ReplayOptions,
): Promise<boolean> {
  const { above, name } = splitPath(entry.path);
  let parent: OpenDirectory;
  try {
    parent = openAlong(root, above);
  } catch (error) {
    if (!hasVanished(error)) tree.missing(entry.path, error);
    else onMoved(entry.path);
    return false;
  }
  using _parent = parent;
  const live = { entry, parent, name, about: `${about}/${entry.path}` };
  const read = await writeLiveFile(live, tree, sink, ctx);
  if (isProven && (read === undefined || !isSameFile(entry, fileIdentity(read)))) onMoved(entry.path);
  return read !== undefined;
}

const isSameFile = ({ identity: a }: MarkedFile, b: MarkedFile['identity']): boolean =>
  a.sizeBytes === b.sizeBytes && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.inode === b.inode;
