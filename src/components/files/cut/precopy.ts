import { closeSync, constants, fstatSync, type BigIntStats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../../../model/abort.ts';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import { syncFileSystem } from '../../../disk/posix/index.ts';
import type { BodyStore, ChunkingHint, StoredBody } from '../../../ports/artifacts.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { chunkingOf } from '../live-file.ts';
import { filesAtOnce, hasSeveralNames, HardLinks } from '../tree-sink.ts';
import { diskBytesOf, entryOf, type FileEntry, type LiveStep } from '../tree/entry.ts';
import { causeOf, ChangedError, FileBody, ReadError } from '../tree/file-body.ts';
import { Lanes } from '../tree/lanes.ts';
import { walkTree, type WalkRules } from '../tree/walk.ts';
import type { LineWriter } from './lines.ts';
import type { DatabasePart, MarkedBody, MarkedFile } from './marked.ts';
import type { BesideDatabase } from '../sqlite/header.ts';
import { databasePart, journalModeAt } from '../sqlite/recognise.ts';
import { isProven, keyOf, noteLine, type NoteReader } from './note.ts';
import type { ScratchCopies } from './scratch-copies.ts';

/**
 * The kernel writes dirty pages to the disk after half a minute. Until then a program that writes through a mapping of a
 * file changes it without a trace in its time stamps; after that, the next change leaves one. So what is younger than
 * this is written to the disk before it is read.
 */
const unsyncedMarginNs = 120_000_000_000n;
/** So many lines wait for their files at most, so that all of a directory's need not. */
const linesMax = 256;

/** One walk before the cut. */
export interface PrecopyOptions {
  readonly root: OpenDirectory;
  /** For messages. */
  readonly about: string;
  readonly leaveOut: WalkRules['leaveOut'];
  readonly artifact: (path: string) => string;
  /** Absent where nothing can be stored before the mark: everything is only noted then. */
  readonly bodies: BodyStore | undefined;
  /** Of the walk before. */
  readonly previous: NoteReader | undefined;
  readonly note: LineWriter;
  readonly copies: ScratchCopies;
  readonly ctx: OperationContext;
}

/** What a walk came to. */
export interface PrecopyResult {
  /** Of files that had changed just before, so that the mark has to fix them as things are. */
  readonly restlessBytes: number;
  /** Read and stored by this walk. */
  readonly storedBytes: number;
}

/** Walks a tree, stores its files and notes what tells them unchanged. What cannot be read is left to the mark. */
export async function precopyTree(options: PrecopyOptions): Promise<PrecopyResult> {
  const pass = new PrecopyPass(options);
  await pass.run();
  return pass;
}

/** A file that was read. */
type TakenFile = Pick<MarkedFile, 'body' | 'database'>;

class PrecopyPass implements PrecopyResult {
  readonly #options: PrecopyOptions;
  readonly #lanes = new Lanes(filesAtOnce);
  /** In the order of the walk. */
  #lines: Promise<string>[] = [];
  /** Bodies of files of which more names are to come. */
  readonly #linked = new Map<string, { names: number; readonly body: Promise<TakenFile | undefined> }>();
  /** When everything that was dirty began to be written to the disk. */
  #syncedNs: bigint | undefined;
  readonly #databases = new Set<string>();
  restlessBytes = 0;
  storedBytes = 0;

  constructor(options: PrecopyOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { root, leaveOut, ctx } = this.#options;
    try {
      for (const step of walkTree(root, { leaveOut, onFailure: () => undefined })) {
        throwIfAborted(ctx.signal);
        // Files of a directory are opened from there.
        if (step.kind === 'leave') await this.#flush();
        else await this.#note(step);
        if (this.#lines.length < linesMax) continue;
        await this.#flush();
        await setImmediate();
      }
    } finally {
      await this.#lanes.settle();
    }
    this.#options.note.flush();
  }

  async #flush(): Promise<void> {
    await this.#lanes.settle();
    for (const line of await Promise.all(this.#lines)) this.#options.note.write(line);
    this.#lines = [];
  }

  async #note(step: LiveStep): Promise<void> {
    const part = this.#partOf(step);
    if (part?.suffix === '-shm') return;
    const key = keyOf(step);
    const known = this.#knownLine(step.path, key);
    if (known !== undefined) this.#lines.push(Promise.resolve(known));
    else await this.#lookAt(step, key, part);
  }

  /** Of the database that the file belongs to. Databases come before what lies beside them. */
  #partOf(step: LiveStep): DatabasePart | BesideDatabase | undefined {
    if (step.kind !== 'entry' || !step.stats.isFile()) return undefined;
    const part = databasePart(step.path, (path) => this.#databases.has(path));
    if (part !== undefined) return part;
    const journal = journalModeAt(step);
    if (journal === undefined) return undefined;
    this.#databases.add(step.path);
    return { of: step.path, suffix: '', journal };
  }

  /** What the walk before noted, where that still holds. */
  #knownLine(path: string, key: string): string | undefined {
    const { previous } = this.#options;
    if (previous === undefined) return undefined;
    if (!previous.isSame(key)) previous.skipTo(path);
    const line = previous.isSame(key) ? previous.line : undefined;
    if (line !== undefined || previous.isAt(path)) previous.next();
    return line;
  }

  async #lookAt(step: LiveStep, key: string, part: DatabasePart | undefined): Promise<void> {
    const { stats } = step;
    let isWhole = isProven(stats, await this.#provenAt(stats));
    // A database in use never rests, and the mark knows another way.
    if (!isWhole && stats.isFile() && part === undefined) this.restlessBytes += diskBytesOf(stats);
    const entry = isWhole ? entryOf(step, () => void (isWhole = false)) : undefined;
    if (!isWhole || entry === undefined) this.#lines.push(Promise.resolve(noteLine(key)));
    else if (entry.type !== 'file') this.#lines.push(Promise.resolve(noteLine(key, entry)));
    else if (step.kind === 'entry') await this.#startFile(entry, step, key, part);
  }

  /** The moment from which on a change leaves a trace. */
  async #provenAt(stats: BigIntStats): Promise<bigint> {
    const nowNs = this.#nowNs();
    if (nowNs - stats.ctimeNs > unsyncedMarginNs || !stats.isFile()) return nowNs;
    if (this.#syncedNs === undefined) {
      this.#syncedNs = nowNs;
      // What a file system cannot write now is no reason not to read it.
      await syncFileSystem(this.#options.root.descriptor).catch(() => undefined);
    }
    return this.#syncedNs;
  }

  #nowNs(): bigint {
    return BigInt(this.#options.ctx.clock.now().getTime()) * 1_000_000n;
  }

  async #startFile(
    entry: FileEntry,
    step: Extract<LiveStep, { kind: 'entry' }>,
    key: string,
    part: DatabasePart | undefined,
  ): Promise<void> {
    const line = Promise.withResolvers<string>();
    this.#lines.push(line.promise);
    // Where a lane fails, nobody waits for its line.
    line.promise.catch(() => undefined);
    await this.#lanes.start(async () => {
      try {
        const taken = await this.#bodyOf(entry, step, key, part);
        line.resolve(taken === undefined ? noteLine(key) : noteLine(key, { ...entry, ...taken }));
      } catch (error) {
        line.reject(error);
        throw error;
      }
    });
  }

  #bodyOf(
    entry: FileEntry,
    step: Extract<LiveStep, { kind: 'entry' }>,
    key: string,
    part: DatabasePart | undefined,
  ): Promise<TakenFile | undefined> {
    const { identity } = entry;
    if (part !== undefined || !hasSeveralNames(identity)) return this.#take(entry, step, key, part);
    const file = HardLinks.keyOf(identity);
    const known = this.#linked.get(file);
    const body = known?.body ?? this.#take(entry, step, key, part);
    const names = (known?.names ?? 0) + 1;
    if (names < (identity.links ?? 1)) this.#linked.set(file, { names, body });
    else this.#linked.delete(file);
    return body;
  }

  /** Undefined when it is another file, or changed meanwhile, or cannot be read. */
  async #take(
    entry: FileEntry,
    { parent, name }: Extract<LiveStep, { kind: 'entry' }>,
    key: string,
    part: DatabasePart | undefined,
  ): Promise<TakenFile | undefined> {
    const { bodies, artifact, ctx } = this.#options;
    const { path } = entry;
    const known = await bodies?.known(artifact(path), entry.identity);
    if (part === undefined) {
      if (known !== undefined) return { body: { from: 'destination', stored: known } };
      if (bodies === undefined) return { body: { from: 'live', isProven: true } };
    }
    let descriptor: number | undefined;
    try {
      descriptor = parent.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
      const isSame = (): boolean =>
        descriptor !== undefined && keyOf({ path, stats: fstatSync(descriptor, { bigint: true }) }) === key;
      if (!isSame()) return undefined;
      if (part !== undefined) return await this.#takeOfDatabase(entry, descriptor, part, known, isSame);
      return bodies && { body: await this.#store(path, descriptor, bodies) };
    } catch (error) {
      throwIfAborted(ctx.signal);
      const isOfReading =
        descriptor === undefined ||
        causeOf(error, ReadError) !== undefined ||
        causeOf(error, ChangedError) !== undefined;
      if (!isOfReading) throw error;
      return undefined;
    } finally {
      if (descriptor !== undefined) closeSync(descriptor);
    }
  }

  /** What belongs to a database is copied, so that the database can be checked without anybody else; see sqlite/. */
  async #takeOfDatabase(
    { path }: FileEntry,
    descriptor: number,
    part: DatabasePart,
    known: StoredBody | undefined,
    isSame: () => boolean,
  ): Promise<TakenFile | undefined> {
    const { bodies, copies, ctx } = this.#options;
    const copy = await copies.copy(descriptor, { signal: ctx.signal });
    if (copy !== undefined && !isSame()) {
      copies.remove(copy);
      return undefined;
    }
    const database = copy === undefined ? part : { ...part, copy };
    if (known !== undefined) return { body: { from: 'destination', stored: known }, database };
    if (bodies !== undefined) return { body: await this.#store(path, descriptor, bodies, 'pages'), database };
    return copy === undefined ? undefined : { body: { from: 'scratch', copy }, database };
  }

  async #store(
    path: string,
    descriptor: number,
    bodies: BodyStore,
    chunking: ChunkingHint = chunkingOf(fstatSync(descriptor).size),
  ): Promise<MarkedBody> {
    const { artifact, about, ctx } = this.#options;
    const stats = fstatSync(descriptor, { bigint: true });
    const sizeBytes = Number(stats.size);
    const body = new FileBody(descriptor, `${about}/${path}`, stats, false, ctx.signal);
    const stored = await bodies.store(artifact(path), body.bytes(), {
      ...{ chunking, sizeBytes, signal: ctx.signal },
    });
    this.storedBytes += sizeBytes;
    return { from: 'destination', stored };
  }
}
