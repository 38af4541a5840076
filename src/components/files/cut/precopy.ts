import { closeSync, constants, fstatSync, type BigIntStats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../../../model/abort.ts';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import { syncFileSystem } from '../../../disk/posix/index.ts';
import type { BodyStore, FileIdentity, StoredBody } from '../../../ports/artifacts.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { chunkingOf } from '../live-file.ts';
import { filesAtOnce, hasSeveralNames, HardLinks } from '../tree-sink.ts';
import { diskBytesOf, entryOf, type FileEntry, type LiveStep } from '../tree/entry.ts';
import { causeOf, ChangedError, FileBody, ReadError } from '../tree/file-body.ts';
import { Lanes } from '../tree/lanes.ts';
import { walkTree, type WalkRules } from '../tree/walk.ts';
import type { LineWriter } from './lines.ts';
import type { MarkedBody } from './marked.ts';
import { isProven, keyOf, noteLine, type NoteReader } from './note.ts';

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

class PrecopyPass implements PrecopyResult {
  readonly #options: PrecopyOptions;
  readonly #lanes = new Lanes(filesAtOnce);
  /** In the order of the walk. */
  #lines: Promise<string>[] = [];
  /** Bodies of files of which more names are to come. */
  readonly #linked = new Map<string, { names: number; readonly body: Promise<MarkedBody | undefined> }>();
  /** When everything that was dirty began to be written to the disk. */
  #syncedNs: bigint | undefined;
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
    const key = keyOf(step);
    const known = this.#knownLine(step.path, key);
    if (known !== undefined) this.#lines.push(Promise.resolve(known));
    else await this.#lookAt(step, key);
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

  async #lookAt(step: LiveStep, key: string): Promise<void> {
    const { stats } = step;
    let isWhole = isProven(stats, await this.#provenAt(stats));
    if (!isWhole && stats.isFile()) this.restlessBytes += diskBytesOf(stats);
    const entry = isWhole ? entryOf(step, () => void (isWhole = false)) : undefined;
    if (!isWhole || entry === undefined) this.#lines.push(Promise.resolve(noteLine(key)));
    else if (entry.type !== 'file') this.#lines.push(Promise.resolve(noteLine(key, entry)));
    else if (step.kind === 'entry') await this.#startFile(entry, step, key);
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

  async #startFile(entry: FileEntry, step: Extract<LiveStep, { kind: 'entry' }>, key: string): Promise<void> {
    const line = Promise.withResolvers<string>();
    this.#lines.push(line.promise);
    // Where a lane fails, nobody waits for its line.
    line.promise.catch(() => undefined);
    await this.#lanes.start(async () => {
      try {
        const body = await this.#bodyOf(entry, step, key);
        line.resolve(body === undefined ? noteLine(key) : noteLine(key, { ...entry, body }));
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
  ): Promise<MarkedBody | undefined> {
    const { identity } = entry;
    if (!hasSeveralNames(identity)) return this.#take(entry, step, key);
    const file = HardLinks.keyOf(identity);
    const known = this.#linked.get(file);
    const body = known?.body ?? this.#take(entry, step, key);
    const names = (known?.names ?? 0) + 1;
    if (names < (identity.links ?? 1)) this.#linked.set(file, { names, body });
    else this.#linked.delete(file);
    return body;
  }

  /** Undefined when it is another file, or changed meanwhile, or cannot be read. */
  async #take(
    { path, identity }: FileEntry,
    { parent, name }: Extract<LiveStep, { kind: 'entry' }>,
    key: string,
  ): Promise<MarkedBody | undefined> {
    const { bodies, artifact } = this.#options;
    const known = await bodies?.known(artifact(path), identity);
    if (known !== undefined) return { from: 'destination', stored: known };
    if (bodies === undefined) return { from: 'live', isProven: true };
    let descriptor: number | undefined;
    try {
      descriptor = parent.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
      if (keyOf({ path, stats: fstatSync(descriptor, { bigint: true }) }) !== key) return undefined;
      return { from: 'destination', stored: await this.#store(path, descriptor, identity, bodies) };
    } catch (error) {
      throwIfAborted(this.#options.ctx.signal);
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

  async #store(
    path: string,
    descriptor: number,
    { sizeBytes }: FileIdentity,
    bodies: BodyStore,
  ): Promise<StoredBody> {
    const { artifact, about, ctx } = this.#options;
    const stats = fstatSync(descriptor, { bigint: true });
    const body = new FileBody(descriptor, `${about}/${path}`, stats, false, ctx.signal);
    const stored = await bodies.store(artifact(path), body.bytes(), {
      ...{ chunking: chunkingOf(sizeBytes), sizeBytes, signal: ctx.signal },
    });
    this.storedBytes += sizeBytes;
    return stored;
  }
}
