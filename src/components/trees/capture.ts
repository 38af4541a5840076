import { constants, type BigIntStats } from 'node:fs';
import { open, readlink, realpath, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, TarsError, toTarsError } from '../../model/errors.ts';
import type { ArtifactSink, Bytes } from '../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { attributesOf, identityOf } from '../files/file-bytes.ts';
import { treeFolder, type CapturedEntry, type CapturedTree, type TreesFacts } from './facts.ts';
import { walkTree } from './walk.ts';

/** One directory that is captured. */
export interface Tree {
  /** Absolute, as configured: of this machine, or in the container of its service. */
  readonly path: string;
  /** Where that is on this machine. */
  readonly live: string;
  /** Left out, relative to the tree. */
  readonly exclude: readonly string[];
  /** What is not the tree's own, relative to it: neither captured nor exchanged, whatever a snapshot holds. */
  readonly keepOut?: readonly string[];
}

/** What a walk passes over. */
export const passedOver = ({ exclude, keepOut = [] }: Pick<Tree, 'exclude' | 'keepOut'>): ReadonlySet<string> =>
  new Set([...exclude, ...keepOut]);

/** Whether `path`, relative to the tree, is or lies below something that is not the tree's own. */
export const isKeptOut = ({ keepOut = [] }: Pick<Tree, 'keepOut'>, path: string): boolean =>
  keepOut.some((kept) => path === kept || path.startsWith(`${kept}/`));

/** How often a file that changes is read before it is kept as it was read last. */
const readsMax = 3;
const readBufferBytes = 1 << 20;
/** Of the files that cannot be read, so many are named. */
const namedMax = 5;

/** Directories are captured while they are used: each file has a moment of its own. */
export function prepareTreesCapture(name: string, trees: readonly Tree[]): PreparedCapture {
  return {
    pointInTime: 'own',
    mark: () => Promise.resolve(),
    settle: () => Promise.resolve(),
    capture: (sink, ctx) => captureTrees(name, trees, sink, ctx),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** The directory itself, through links. @throws TarsError `capture-failed` when it is none */
export async function requireDirectory(path: string): Promise<string> {
  const live = await realpath(path).catch((error: unknown) => {
    throw toTarsError(error, `Cannot read the directory ${path}`);
  });
  if ((await stat(live)).isDirectory()) return live;
  throw new TarsError('capture-failed', `Cannot capture ${path}: it is no directory`, {
    hint: 'List single files under files: of the config component in tars.yaml.',
  });
}

async function captureTrees(
  name: string,
  trees: readonly Tree[],
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<CaptureReport> {
  const failures: TarsError[] = [];
  const captured: CapturedTree[] = [];
  for (const tree of trees) captured.push(await captureTree(name, tree, failures, sink, ctx));
  const [first] = failures;
  if (first !== undefined) {
    const named = failures.slice(0, namedMax).map(({ message }) => message);
    const more = failures.length > namedMax ? `; and ${failures.length - namedMax} more` : '';
    throw new TarsError('capture-failed', `Cannot capture all of ${name}: ${named.join('; ')}${more}`, {
      hint:
        first.hint ??
        'Correct that, or list what may be left out under exclude: of the component in tars.yaml.',
      cause: first,
    });
  }
  const facts: TreesFacts = { trees: captured };
  return { serverVersion: undefined, method: 'tree', writesBlockedMs: 0, facts };
}

async function captureTree(
  name: string,
  tree: Tree,
  failures: TarsError[],
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<CapturedTree> {
  const live = await requireDirectory(tree.live);
  const folder = treeFolder(name, tree.path);
  const captured: CapturedTree = { path: tree.path, entries: [], skipped: [], changing: [] };
  const onFailure = (_path: string, error: TarsError): void => void failures.push(error);
  for await (const { path, stats } of walkTree(live, passedOver(tree), onFailure, ctx.signal)) {
    const target = path === '' ? folder : `${folder}/${path}`;
    try {
      const entry = await captureEntry(join(live, path), path, stats, target, captured, sink, ctx);
      if (entry !== undefined) captured.entries.push(entry);
    } catch (error) {
      if (ctx.signal.aborted || !isReadFailure(error)) throw error;
      failures.push(toTarsError(error, `Cannot read ${join(live, path)}`));
    }
  }
  if (captured.skipped.length > 0)
    ctx.log.info(`${name}: sockets, pipes and devices are left out: ${captured.skipped.join(', ')}`);
  for (const path of captured.changing)
    ctx.log.warn(`${join(tree.path, path)} changed each time it was read; it is kept as it was read last`);
  return captured;
}

/** Undefined for what is left out. */
async function captureEntry(
  at: string,
  path: string,
  stats: BigIntStats,
  artifact: string,
  captured: CapturedTree,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<CapturedEntry | undefined> {
  if (stats.isDirectory()) {
    await sink.directory(artifact, attributesOf(stats));
    return entryOf(path, 'directory', stats);
  }
  if (stats.isSymbolicLink()) {
    const target = await readlink(at);
    await sink.symlink(artifact, target, attributesOf(stats));
    return { ...entryOf(path, 'symlink', stats), target };
  }
  const read = stats.isFile() ? await captureFile(at, artifact, sink, ctx) : undefined;
  if (read === 'vanished') return undefined;
  if (read === undefined) {
    captured.skipped.push(path);
    return undefined;
  }
  if (read.changing) captured.changing.push(path);
  return entryOf(path, 'file', read.stats);
}

function entryOf(path: string, type: CapturedEntry['type'], stats: BigIntStats): CapturedEntry {
  const { mode, uid, gid, mtimeNs } = attributesOf(stats);
  return { path, type, mode, uid, gid, mtimeNs: mtimeNs.toString() };
}

/** Reading a file failed, not writing it. */
class ReadError extends TarsError {}
class ChangedError extends Error {}

const isReadFailure = (error: unknown): boolean => causeOf(error, ReadError) !== undefined;

/** A sink may wrap what the body threw. */
function causeOf<T extends Error>(error: unknown, type: new (...args: never[]) => T): T | undefined {
  if (error instanceof type) return error;
  return error instanceof Error && error.cause !== undefined ? causeOf(error.cause, type) : undefined;
}

const readError = (error: unknown, at: string): ReadError => {
  const { code, message, hint } = toTarsError(error, `Cannot read ${at}`);
  return new ReadError(code, message, { ...(hint === undefined ? {} : { hint }), cause: error });
};

interface CapturedFile {
  readonly stats: BigIntStats;
  readonly changing: boolean;
}

async function captureFile(
  at: string,
  artifact: string,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<CapturedFile | 'vanished' | undefined> {
  for (let reads = 1; ; reads++) {
    // What took the file's place meanwhile must neither be followed nor waited for.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const handle = await open(at, flags).catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ELOOP')) return undefined;
      throw readError(error, at);
    });
    if (handle === undefined) return 'vanished';
    try {
      const stats = await handle.stat({ bigint: true });
      if (!stats.isFile()) return undefined;
      const identity = identityOf(stats);
      if ((await sink.reuse(artifact, identity)) !== undefined) return { stats, changing: false };
      const isLast = reads === readsMax;
      const body = new FileBody(handle, at, stats, isLast, ctx.signal);
      await sink.write(artifact, body.bytes(), {
        attributes: attributesOf(stats),
        chunking: identity.sizeBytes > readBufferBytes ? 'stream' : 'small',
        // An archive begins an entry of known size at once, and then it could not be read again.
        ...(sink.encrypted && !isLast ? { sizeBytes: identity.sizeBytes, identity } : {}),
        signal: ctx.signal,
      });
      return { stats, changing: body.hasChanged };
    } catch (error) {
      if (ctx.signal.aborted || causeOf(error, ChangedError) === undefined) throw error;
    } finally {
      await handle.close();
    }
  }
}

/** A file's bytes up to the length it had when it was opened. */
class FileBody {
  hasChanged = false;
  readonly #handle: FileHandle;
  readonly #at: string;
  readonly #before: BigIntStats;
  readonly #mayChange: boolean;
  readonly #signal: AbortSignal;

  constructor(handle: FileHandle, at: string, before: BigIntStats, mayChange: boolean, signal: AbortSignal) {
    this.#handle = handle;
    this.#at = at;
    this.#before = before;
    this.#mayChange = mayChange;
    this.#signal = signal;
  }

  /** @throws ChangedError after the last byte when the file is another by then and must not be */
  async *bytes(): Bytes {
    const sizeBytes = Number(this.#before.size);
    let position = 0;
    try {
      while (position < sizeBytes) {
        this.#signal.throwIfAborted();
        const buffer = Buffer.allocUnsafeSlow(Math.min(readBufferBytes, sizeBytes - position));
        const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, position);
        if (bytesRead === 0) break;
        position += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
      const { size, mtimeNs, ctimeNs } = await this.#handle.stat({ bigint: true });
      const { size: sizeBefore, mtimeNs: mtimeBefore, ctimeNs: ctimeBefore } = this.#before;
      this.hasChanged = size !== sizeBefore || mtimeNs !== mtimeBefore || ctimeNs !== ctimeBefore;
    } catch (error) {
      this.#signal.throwIfAborted();
      throw readError(error, this.#at);
    }
    if (this.hasChanged && !this.#mayChange) throw new ChangedError(`${this.#at} changed while it was read`);
  }
}
