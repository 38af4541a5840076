import { join } from 'node:path';
import { throwIfAborted } from '../../model/abort.ts';
import { CleanupStack } from '../../model/cleanup-stack.ts';
import { openPath, type OpenedPath } from '../../disk/open-path.ts';
import { openScratch } from '../../disk/run-scratch.ts';
import { formatBytes } from '../../model/bytes.ts';
import { hasErrno, TarsError } from '../../model/errors.ts';
import { someOf } from '../../model/plural.ts';
import type { ArtifactSink } from '../../ports/artifacts.ts';
import type { CaptureReport, MarkTerms, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SecretLook } from '../../ports/kind.ts';
import { IncompleteList } from '../paths/incomplete.ts';
import { checkDatabases } from './cut/check-databases.ts';
import { DeltaWriter } from './cut/delta.ts';
import { LineWriter } from './cut/lines.ts';
import { markTree, type MarkedDatabases, type MarkTreeOptions } from './cut/mark-tree.ts';
import type { MarkedBody } from './cut/marked.ts';
import { NoteReader } from './cut/note.ts';
import { precopyTree, type PrecopyResult } from './cut/precopy.ts';
import { replayTree } from './cut/replay.ts';
import { ScratchCopies } from './cut/scratch-copies.ts';
import { treeFolder, type CapturedTree, type TreesFacts } from './facts.ts';
import { LeftOut } from './left-out.ts';
import { captureLiveTree } from './live-tree.ts';
import { HardLinks, namedMax, TreeSink } from './tree-sink.ts';
import { WithholdingSink } from './withholding-sink.ts';
import { keptOutOf, TreeScope, type Tree } from './tree/scope.ts';

/** The walks before the cut, at most. */
const passesMax = 3;
/** More than this is not left to the mark, when another walk before it may help. */
const restlessBytesMax = 32 << 20;
/** A file that has rested for so long is proven by its time stamps. */
const restMs = 2_100;
/** A walk that took longer is repeated: by then something has changed. */
const longPassMs = 2_000;
/** Part of the time for marks that copies may take; the rest is for those of other components, and for delays. */
const copyShare = 0.75;

/** What is captured, under which name. */
export interface CapturedTrees {
  readonly name: string;
  readonly trees: readonly Tree[];
  readonly keepOut: readonly string[];
  readonly scratchDir: string;
  readonly look?: SecretLook | undefined;
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

/** Patterns that matched nothing in any of the trees. */
export const unmatchedInAll = (unmatched: readonly (readonly string[])[]): readonly string[] =>
  (unmatched[0] ?? []).filter((pattern) => unmatched.every((patterns) => patterns.includes(pattern)));

export const unmatchedWarning = (pattern: string, trees: readonly Tree[]): string =>
  `"${pattern}" under exclude: matches nothing in ${trees.map(({ path }) => path).join(', ')}`;

/** What the mark found of one tree. */
interface MarkedTree {
  readonly tree: Tree;
  readonly notePath: string;
  readonly deltaPath: string;
  readonly databases: MarkedDatabases;
  readonly leftOut: LeftOut;
  readonly unmatched: readonly string[];
  /** What could not be read, by path in the tree. */
  readonly missing: readonly (readonly [path: string, reason: unknown])[];
}

/** What a walk over all trees came to. */
interface Pass {
  readonly restlessBytes: number;
  readonly tookMs: number;
}

interface MarkLimits {
  readonly isQuiet: boolean;
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
}

/** What there is from {@link TreesCapture.precapture} on. */
interface Precopy {
  readonly ctx: OperationContext;
  readonly directory: string;
  readonly copies: ScratchCopies;
  /** The note of the last walk of each tree. */
  readonly notes: ReadonlyMap<Tree, string>;
}

/**
 * Captures directories in use, as virtual machines migrate: before the cut everything is read and stored, with a note of
 * what tells each file unchanged. At the mark everything is looked at once more, and what is different is copied into the
 * scratch directory. After it, what the directories were at the mark is written from both.
 *
 * Where nothing was read before the mark, or a file does not fit into the time of the mark, what is captured has a moment
 * of its own.
 */
export class TreesCapture implements PreparedCapture {
  readonly #what: CapturedTrees;
  /** What lies in another tree is finished first. */
  readonly #trees: readonly Tree[];
  readonly #scratch = new CleanupStack();
  #precopy: Precopy | undefined;
  #marked: readonly MarkedTree[] | undefined;
  #reasons: string[] = [];
  #marks = 0;

  constructor(what: CapturedTrees) {
    this.#what = what;
    this.#trees = [...what.trees].sort((a, b) => b.path.length - a.path.length);
  }

  get pointInTime(): 'cut' | 'own' {
    return this.#marked === undefined || this.#reasons.length > 0 ? 'own' : 'cut';
  }

  get ownReason(): string | undefined {
    return this.#reasons.length === 0 ? undefined : this.#reasons.join('; ');
  }

  async precapture(sink: ArtifactSink, ctx: OperationContext): Promise<void> {
    const scratch = this.#scratch.use(await openScratch(this.#what.scratchDir, 'files'));
    const copies = new ScratchCopies(scratch.path, ctx.clock);
    const notes = new Map<Tree, string>();
    let latest: Pass | undefined;
    for (let passes = 1; passes <= passesMax; passes++) {
      await copies.measureSpace();
      const startedMs = ctx.clock.monotonicMs();
      let restlessBytes = 0;
      for (const [index, tree] of this.#trees.entries()) {
        const files = { previous: notes.get(tree), note: join(scratch.path, `note-${index}-${passes}`) };
        restlessBytes += (await this.#precopyTree(tree, files, copies, sink, ctx)).restlessBytes;
        notes.set(tree, files.note);
      }
      const pass = { restlessBytes, tookMs: ctx.clock.monotonicMs() - startedMs };
      if (passes === passesMax || !isWorthAnother(pass, latest)) break;
      // What has just changed may come to rest.
      if (restlessBytes > restlessBytesMax) await ctx.clock.sleep(restMs, ctx.signal);
      latest = pass;
    }
    await copies.measureSpace();
    this.#precopy = { ctx, directory: scratch.path, copies, notes };
  }

  async #precopyTree(
    tree: Tree,
    files: { readonly previous: string | undefined; readonly note: string },
    copies: ScratchCopies,
    sink: ArtifactSink,
    ctx: OperationContext,
  ): Promise<PrecopyResult> {
    using opened = await openPath(tree.live);
    const scope = await this.#scopeOf(opened, tree);
    using note = new LineWriter(files.note);
    using previous = files.previous === undefined ? undefined : new NoteReader(files.previous);
    const folder = treeFolder(this.#what.name, tree.path);
    return await precopyTree({
      ...{ root: opened.directory, about: tree.live, bodies: sink.bodies, previous, note, copies, ctx },
      leaveOut: (path, stats) => scope.outside(path, stats) !== undefined,
      artifact: (path) => (path === '' ? folder : `${folder}/${path}`),
    });
  }

  async #scopeOf(opened: OpenedPath, tree: Tree): Promise<TreeScope> {
    const { trees, keepOut } = this.#what;
    return TreeScope.of(opened, tree, await keptOutOf(tree, trees, keepOut));
  }

  async mark(signal: AbortSignal, terms?: MarkTerms): Promise<void> {
    if (this.#precopy === undefined) return;
    const { clock } = this.#precopy.ctx;
    const deadlineMs = terms === undefined ? Infinity : clock.monotonicMs() + terms.timeoutMs * copyShare;
    const limits = { signal, deadlineMs, isQuiet: terms?.isQuiet === true };
    const { copies, ctx } = this.#precopy;
    const beforeBytes = copies.doneBytes;
    this.#marked = await this.#markAll(this.#precopy, limits);
    const copied = formatBytes(copies.doneBytes - beforeBytes);
    ctx.log.debug(`${this.#what.name}: ${copied} copied during the pause`);
    if (this.#marked === undefined)
      this.#reasons.push(
        'the pause was too short for one look at every file; raise pause_max_ms in tars.yaml',
      );
  }

  /** What the mark had no time for is looked at now, and databases that were not copied are read. */
  async settle(ctx: OperationContext): Promise<void> {
    if (this.#precopy === undefined) return;
    const limits = { signal: ctx.signal, deadlineMs: Infinity, isQuiet: false };
    this.#marked ??= await this.#markAll(this.#precopy, limits);
    const late: string[] = [];
    for (const { tree, databases } of this.#marked ?? []) {
      for (const database of databases.values()) {
        throwIfAborted(ctx.signal);
        if (database.isTransaction && (await database.take()) !== 'of the mark')
          late.push(join(tree.path, database.path));
      }
    }
    if (late.length > 0)
      this.#reasons.push(
        `${someOf(late.slice(0, namedMax), late.length)} was written at the cut, and SQLite read it afterwards; declare the service that writes it as a writer under services: in tars.yaml, so that it is paused`,
      );
  }

  /** Undefined when the time was over before the end. */
  async #markAll(
    precopy: Precopy,
    { isQuiet, signal, deadlineMs }: MarkLimits,
  ): Promise<readonly MarkedTree[] | undefined> {
    const marked: MarkedTree[] = [];
    const unfixed: string[] = [];
    let [unfixedCount, unfixedBytes] = [0, 0];
    const linked = new Map<string, MarkedBody>();
    const { clock } = precopy.ctx;
    const context = {
      ...{ linked, copies: precopy.copies, limits: { signal, deadlineMs }, isQuiet },
      nowNs: BigInt(clock.now().getTime()) * 1_000_000n,
      isLate: () => clock.monotonicMs() > deadlineMs,
    };
    for (const tree of this.#trees) {
      const onUnfixed = (path: string, sizeBytes: number): void => {
        unfixedCount += 1;
        unfixedBytes += sizeBytes;
        if (unfixed.length < namedMax) unfixed.push(join(tree.path, path));
      };
      const done = await this.#markOne(tree, precopy, { ...context, onUnfixed });
      if (done === undefined) {
        letGo(marked);
        return undefined;
      }
      marked.push(done);
    }
    if (unfixedCount > 0) this.#reasons.push(unfixedReason(someOf(unfixed, unfixedCount), unfixedBytes));
    return marked;
  }

  async #markOne(
    tree: Tree,
    { directory, notes }: Precopy,
    context: Omit<MarkTreeOptions, 'root' | 'live' | 'rules' | 'note' | 'delta' | 'onMissing'>,
  ): Promise<MarkedTree | undefined> {
    const index = this.#trees.indexOf(tree);
    const notePath = notes.get(tree) ?? '';
    const deltaPath = join(directory, `delta-${index}-${++this.#marks}`);
    const missing: [string, unknown][] = [];
    const onMissing = (path: string, reason: unknown): void => void missing.push([path, reason]);
    using opened = await openPath(tree.live);
    const scope = await this.#scopeOf(opened, tree);
    const leftOut = new LeftOut(scope, onMissing);
    using note = new NoteReader(notePath);
    using lines = new LineWriter(deltaPath);
    const databases = await markTree({
      ...{
        ...context,
        root: opened.directory,
        live: opened.path,
        note,
        delta: new DeltaWriter(lines),
        onMissing,
      },
      rules: { leaveOut: leftOut.leaveOut, onFailure: onMissing },
    });
    if (databases === undefined) return undefined;
    return { tree, notePath, deltaPath, databases, leftOut, missing, unmatched: scope.exclusions.unmatched };
  }

  async capture(destination: ArtifactSink, ctx: OperationContext): Promise<CaptureReport> {
    const { name, trees, look } = this.#what;
    const sink =
      destination.encrypted || look === undefined ? destination : new WithholdingSink(destination, look);
    const incomplete = new IncompleteList();
    const hardLinks = new HardLinks();
    const captured = new Map<Tree, CapturedTree>();
    const unmatched: (readonly string[])[] = [];
    for (const tree of this.#trees) {
      const into = new TreeSink({ name, tree, incomplete, hardLinks, sink, ctx });
      const marked = this.#marked?.find((each) => each.tree === tree);
      unmatched.push(
        await (marked === undefined
          ? this.#live(tree, into, sink, ctx)
          : this.#replay(marked, into, sink, ctx)),
      );
      captured.set(tree, into.finish());
    }
    for (const pattern of unmatchedInAll(unmatched))
      ctx.log.warn(`${name}: ${unmatchedWarning(pattern, trees)}`);
    const facts: TreesFacts = { trees: trees.flatMap((tree) => captured.get(tree) ?? []) };
    const report = { serverVersion: undefined, method: 'tree', writesBlockedMs: 0, facts };
    return { ...report, ...(incomplete.report === undefined ? {} : { incomplete: incomplete.report }) };
  }

  async #live(
    tree: Tree,
    into: TreeSink,
    sink: ArtifactSink,
    ctx: OperationContext,
  ): Promise<readonly string[]> {
    using opened = await openPath(tree.live);
    const scope = await this.#scopeOf(opened, tree);
    const leftOut = new LeftOut(scope, (path, reason) => into.missing(path, reason));
    const root = { directory: opened.directory, about: tree.live, leaveOut: leftOut.leaveOut };
    await captureLiveTree(root, into, sink, ctx);
    leftOut.report(this.#what.name, tree.path, ctx);
    return scope.exclusions.unmatched;
  }

  async #replay(
    { tree, notePath, deltaPath, databases, leftOut, missing, unmatched }: MarkedTree,
    into: TreeSink,
    sink: ArtifactSink,
    ctx: OperationContext,
  ): Promise<readonly string[]> {
    const copies = this.#precopy?.copies;
    if (copies === undefined) throw new TarsError('internal', `${tree.path} was not marked`);
    for (const [path, reason] of missing) into.missing(path, reason);
    const checked = await checkDatabases(databases, {
      directory: this.#precopy?.directory ?? '',
      tree: into,
      ctx,
    });
    into.describe(checked.described, databases.size);
    if (checked.takenAgain.length > 0)
      this.#reasons.push(
        `${checked.takenAgain.join(', ')} was written during the pause by something that was not paused, so SQLite read it afterwards`,
      );
    const moved: string[] = [];
    let movedCount = 0;
    using opened = await openPath(tree.live);
    await replayTree({
      ...{
        notePath,
        deltaPath,
        copies,
        databases,
        tree: into,
        sink,
        ctx,
        root: opened.directory,
        about: tree.live,
      },
      onMoved: (path) => {
        movedCount += 1;
        if (moved.length < namedMax) moved.push(join(tree.path, path));
      },
    });
    if (movedCount > 0)
      this.#reasons.push(
        `${someOf(moved, movedCount)} changed after the pause, before it was read; back up into a repository, which reads files before the pause`,
      );
    leftOut.report(this.#what.name, tree.path, ctx);
    return unmatched;
  }

  [Symbol.asyncDispose](): Promise<void> {
    letGo(this.#marked ?? []);
    return this.#scratch[Symbol.asyncDispose]();
  }
}

function letGo(marked: readonly MarkedTree[]): void {
  for (const { databases } of marked) for (const database of databases.values()) database[Symbol.dispose]();
}

/** Whether another walk would leave less to the mark: after a long one, and while what changes becomes less. */
function isWorthAnother({ restlessBytes, tookMs }: Pass, before: Pass | undefined): boolean {
  if (tookMs > longPassMs && (before === undefined || tookMs < before.tookMs / 2)) return true;
  return (
    restlessBytes > restlessBytesMax && (before === undefined || restlessBytes < before.restlessBytes / 2)
  );
}

const unfixedReason = (paths: string, sizeBytes: number): string =>
  `${paths} changed shortly before the pause, and there was no time or room to copy ${formatBytes(sizeBytes)} within it; raise pause_max_ms in tars.yaml, or set scratch_dir to the file system of these files if that one can clone files (XFS, Btrfs)`;
