import { closeSync, constants, fstatSync, type BigIntStats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../../model/abort.ts';
import { isSameFile, wasReplaced, type OpenDirectory } from '../../disk/open-directory.ts';
import { openPath } from '../../disk/open-path.ts';
import { hasErrno, TarsError } from '../../model/errors.ts';
import type { ArtifactAttributes, ArtifactSink, FileIdentity, SpecialFile } from '../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { attributesOf, identityOf } from '../paths/file-bytes.ts';
import { attributesAt } from './tree/attributes.ts';
import { treeFolder, type CapturedTree, type TreesFacts } from './facts.ts';
import { causeOf, ChangedError, FileBody, readBufferBytes, ReadError } from './tree/file-body.ts';
import { IncompleteList } from '../paths/incomplete.ts';
import { Lanes } from './tree/lanes.ts';
import { keptOutOf, TreeScope, type Tree } from './tree/scope.ts';
import { someOf } from '../../model/plural.ts';
import { walkTree, type WalkStep } from './tree/walk.ts';

/** How often a file that changes is read before it is kept as it was read last. */
const readsMax = 3;
const filesAtOnce = 8;
/** After this many entries, other work gets its turn. */
const entriesPerTurn = 64;
/** How many entries a message for information names. */
const namedMax = 20;

/** What is captured, under which name. */
interface CapturedTrees {
  readonly name: string;
  readonly trees: readonly Tree[];
  readonly keepOut: readonly string[];
}

/** Directories are captured while they are used: each file has a moment of its own. */
export function prepareTreesCapture(what: CapturedTrees): PreparedCapture {
  return {
    pointInTime: 'own',
    mark: () => Promise.resolve(),
    settle: () => Promise.resolve(),
    capture: (sink, ctx) => captureTrees(what, sink, ctx),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** @throws TarsError `capture-failed` when there is no directory, or only a way to it that others may change */
export async function requireDirectory(path: string): Promise<void> {
  try {
    using _opened = await openPath(path);
  } catch (error) {
    if (!(error instanceof TarsError) || !hasErrno(error.cause, 'ENOTDIR')) throw error;
    throw new TarsError('capture-failed', `Cannot capture ${path}: it is not a directory`, {
      hint: 'List single files under files: of the config component in tars.yaml.',
      cause: error,
    });
  }
}

async function captureTrees(
  { name, trees, keepOut }: CapturedTrees,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<CaptureReport> {
  const incomplete = new IncompleteList();
  const captured = new Map<Tree, CapturedTree>();
  const unmatched: (readonly string[])[] = [];
  const hardLinks = new HardLinks();
  // What lies in another tree is finished first.
  for (const tree of [...trees].sort((a, b) => b.path.length - a.path.length)) {
    using opened = await openPath(tree.live);
    const scope = await TreeScope.of(opened, tree, await keptOutOf(tree, trees, keepOut));
    const capture = new TreeCapture({ name, tree, scope, incomplete, hardLinks, sink, ctx });
    captured.set(tree, await capture.run(opened.directory));
    unmatched.push(scope.exclusions.unmatched);
  }
  for (const pattern of unmatchedInAll(unmatched))
    ctx.log.warn(`${name}: ${unmatchedWarning(pattern, trees)}`);
  const facts: TreesFacts = { trees: trees.flatMap((tree) => captured.get(tree) ?? []) };
  const report = { serverVersion: undefined, method: 'tree', writesBlockedMs: 0, facts };
  return { ...report, ...(incomplete.report === undefined ? {} : { incomplete: incomplete.report }) };
}

/** Patterns that matched nothing in any of the trees. */
export const unmatchedInAll = (unmatched: readonly (readonly string[])[]): readonly string[] =>
  (unmatched[0] ?? []).filter((pattern) => unmatched.every((patterns) => patterns.includes(pattern)));

export const unmatchedWarning = (pattern: string, trees: readonly Tree[]): string =>
  `"${pattern}" under exclude: matches nothing in ${trees.map(({ path }) => path).join(', ')}`;

/** Artifacts by the file that they are a name of. */
class HardLinks {
  readonly #first = new Map<string, Promise<string | undefined>>();

  static keyOf = ({ dev, ino }: BigIntStats): string => `${dev}:${ino}`;

  /** Where the file was captured under another name; undefined for the first. */
  find(stats: BigIntStats): Promise<string | undefined> | undefined {
    return stats.nlink > 1n ? this.#first.get(HardLinks.keyOf(stats)) : undefined;
  }

  /** @param captured resolves to the artifact, or undefined when it could not be captured */
  note(stats: BigIntStats, captured: Promise<string | undefined>): void {
    if (stats.nlink > 1n) this.#first.set(HardLinks.keyOf(stats), captured);
  }
}

interface TreeContext {
  readonly name: string;
  readonly tree: Tree;
  readonly scope: TreeScope;
  readonly incomplete: IncompleteList;
  readonly hardLinks: HardLinks;
  readonly sink: ArtifactSink;
  readonly ctx: OperationContext;
}

type Entry = Extract<WalkStep, { kind: 'entry' }>;

class TreeCapture {
  readonly #parts: TreeContext;
  readonly #folder: string;
  readonly #lanes = new Lanes(filesAtOnce);
  readonly #leftOut: string[] = [];
  #leftOutCount = 0;
  readonly #leftByRestores: string[] = [];
  readonly #changing: string[] = [];
  #files = 0;
  #sizeBytes = 0;

  constructor(parts: TreeContext) {
    this.#parts = parts;
    this.#folder = treeFolder(parts.name, parts.tree.path);
  }

  async run(root: OpenDirectory): Promise<CapturedTree> {
    const { tree, ctx } = this.#parts;
    const mounted: string[] = [];
    const rules = {
      leaveOut: (path: string, stats: BigIntStats): boolean => this.#leaveOut(path, stats, mounted),
      onFailure: (path: string, error: unknown): void => this.#missing(path, error),
    };
    try {
      let steps = 0;
      for (const step of walkTree(root, rules)) {
        throwIfAborted(ctx.signal);
        await this.#take(step);
        for (const path of mounted.splice(0)) this.#missing(path, mountedReason);
        if (++steps % entriesPerTurn === 0) await setImmediate();
      }
    } finally {
      await this.#lanes.settle();
    }
    this.#report();
    return {
      ...{ path: tree.path, entries: [], skipped: [], changing: this.#changing.slice(0, namedMax) },
      ...{ files: this.#files, sizeBytes: this.#sizeBytes, exclude: [...tree.exclude] },
    };
  }

  #leaveOut(path: string, stats: BigIntStats, mounted: string[]): boolean {
    const reason = this.#parts.scope.outside(path, stats);
    if (reason === 'mounted') mounted.push(path);
    if (reason === 'restore') this.#leftByRestores.push(path);
    if (reason === 'excluded') {
      this.#leftOutCount += 1;
      if (this.#leftOut.length < namedMax) this.#leftOut.push(path);
    }
    return reason !== undefined;
  }

  async #take(step: WalkStep): Promise<void> {
    const { sink } = this.#parts;
    switch (step.kind) {
      case 'enter':
        return sink.directory(
          this.#artifact(step.path),
          this.#attributes(step.path, step.directory, '.', step.stats),
        );
      case 'leave':
        // Files of a directory are opened from there.
        await this.#lanes.settle();
        return sink.finish(this.#artifact(step.path));
      case 'entry':
        return step.stats.isFile() ? this.#startFile(step) : this.#other(step);
    }
  }

  async #other({ path, parent, name, stats }: Entry): Promise<void> {
    const { sink } = this.#parts;
    const attributes = this.#attributes(path, parent, name, stats);
    if (!stats.isSymbolicLink()) return sink.special(this.#artifact(path), specialFile(stats), attributes);
    let target: string;
    try {
      target = parent.readlink(name);
    } catch (error) {
      if (!hasVanished(error) && !hasErrno(error, 'EINVAL')) this.#missing(path, error);
      return;
    }
    return sink.symlink(this.#artifact(path), target, attributes);
  }

  async #startFile(entry: Entry): Promise<void> {
    const { hardLinks } = this.#parts;
    const known = hardLinks.find(entry.stats);
    const first = known === undefined ? Promise.withResolvers<string | undefined>() : undefined;
    if (first !== undefined) hardLinks.note(entry.stats, first.promise);
    await this.#lanes.start(async () => {
      let artifact: string | undefined;
      try {
        if (known !== undefined && (await this.#link(entry, await known))) return;
        if (await this.#file(entry)) artifact = this.#artifact(entry.path);
      } finally {
        first?.resolve(artifact);
      }
    });
  }

  /** False when the file is to be captured as any other. */
  async #link({ path, stats }: Entry, existing: string | undefined): Promise<boolean> {
    if (existing === undefined) return false;
    try {
      await this.#parts.sink.link(this.#artifact(path), existing, identityOfFile(stats));
      this.#files += 1;
      return true;
    } catch (error) {
      if (error instanceof TarsError && error.code === 'artifact-not-found') return false;
      throw error;
    }
  }

  /** False when it could not be captured. */
  async #file({ path, parent, name, stats }: Entry): Promise<boolean> {
    const { sink, ctx } = this.#parts;
    const artifact = this.#artifact(path);
    const attributes = this.#attributes(path, parent, name, stats);
    const reused = await sink.reuse(artifact, identityOfFile(stats), attributes);
    if (reused !== undefined) {
      this.#count(stats);
      return true;
    }
    let descriptor: number | undefined;
    try {
      descriptor = parent.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
      const opened = fstatSync(descriptor, { bigint: true });
      // What took its place is captured the next time.
      if (!opened.isFile()) return false;
      const again = isSameFile(stats, opened) ? attributes : this.#attributes(path, parent, name, opened);
      await this.#read(path, descriptor, again);
      return true;
    } catch (error) {
      if (ctx.signal.aborted) throw error;
      const isOfReading = descriptor === undefined || causeOf(error, ReadError) !== undefined;
      if (!isOfReading) throw error;
      if (!hasVanished(error)) this.#missing(path, causeOf(error, ReadError) ?? error);
      return false;
    } finally {
      if (descriptor !== undefined) closeSync(descriptor);
    }
  }

  /** Reads a file again that changes meanwhile. */
  async #read(path: string, descriptor: number, { extended }: ArtifactAttributes): Promise<void> {
    const { sink, ctx, tree } = this.#parts;
    const about = `${tree.live}/${path}`;
    for (let reads = 1; ; reads++) {
      const stats = fstatSync(descriptor, { bigint: true });
      const isLast = reads === readsMax;
      const body = new FileBody(descriptor, about, stats, isLast, ctx.signal);
      const identity = identityOfFile(stats);
      try {
        await sink.write(this.#artifact(path), body.bytes(), {
          attributes: { ...attributesOf(stats), ...(extended === undefined ? {} : { extended }) },
          chunking: identity.sizeBytes > readBufferBytes ? 'stream' : 'small',
          // An archive begins an entry of known size at once, and then it could not be read again.
          ...(sink.encrypted && !isLast ? { sizeBytes: identity.sizeBytes, identity } : {}),
          signal: ctx.signal,
        });
        this.#count(stats);
        if (body.hasChanged) this.#changing.push(path);
        return;
      } catch (error) {
        if (ctx.signal.aborted || causeOf(error, ChangedError) === undefined) throw error;
      }
    }
  }

  /** Holes take no space, nor will they. */
  #count({ size, blocks }: BigIntStats): void {
    this.#files += 1;
    this.#sizeBytes += Math.min(Number(size), Number(blocks) * 512);
  }

  /** What cannot be read of them is missing; what can is kept. */
  #attributes(path: string, parent: OpenDirectory, name: string, stats: BigIntStats): ArtifactAttributes {
    try {
      return attributesAt(parent.at(name), stats);
    } catch (error) {
      if (!hasVanished(error)) this.#missing(path, error);
      return attributesOf(stats);
    }
  }

  #artifact(path: string): string {
    return path === '' ? this.#folder : `${this.#folder}/${path}`;
  }

  #missing(path: string, reason: unknown): void {
    const { incomplete, tree } = this.#parts;
    incomplete.add(path === '' ? tree.path : `${tree.path === '/' ? '' : tree.path}/${path}`, reason);
  }

  #report(): void {
    const { name, tree, ctx } = this.#parts;
    if (this.#leftOutCount > 0)
      ctx.log.info(
        `${name}: exclude: leaves out ${someOf(this.#leftOut, this.#leftOutCount)} of ${tree.path}`,
      );
    if (this.#leftByRestores.length > 0) {
      const names = someOf(this.#leftByRestores.slice(0, namedMax), this.#leftByRestores.length);
      ctx.log.warn(
        `${name}: ${names} in ${tree.path} has a name that tars gives to previous data of a restore, so it is not captured. Remove or rename it`,
      );
    }
    if (this.#changing.length === 0) return;
    const paths = someOf(this.#changing.slice(0, namedMax), this.#changing.length);
    ctx.log.warn(
      `${paths} in ${tree.path} changed every time it was read; the snapshot keeps the last reading`,
    );
  }
}

const mountedReason = 'another file system is mounted there; list it under paths: as well, or under exclude:';

/** What was there when its directory was read, and is no more, or is something else. */
const hasVanished = (error: unknown): boolean =>
  hasErrno(error, 'ENOENT') || hasErrno(error, 'ESTALE') || wasReplaced(error);

const identityOfFile = (stats: BigIntStats): FileIdentity => ({
  ...identityOf(stats),
  ...{ deviceId: stats.dev, links: Number(stats.nlink) },
});

function specialFile(stats: BigIntStats): SpecialFile {
  if (stats.isFIFO()) return { type: 'fifo' };
  if (stats.isSocket()) return { type: 'socket' };
  return { type: stats.isCharacterDevice() ? 'character-device' : 'block-device', device: stats.rdev };
}
