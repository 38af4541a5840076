import { closeSync, constants, fstatSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../../../model/abort.ts';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import { attributesOf } from '../../paths/file-bytes.ts';
import { hasSeveralNames, HardLinks } from '../tree-sink.ts';
import {
  entryOf,
  fileIdentity,
  diskBytesOf,
  type FileEntry,
  type LiveStep,
  hasVanished,
} from '../tree/entry.ts';
import { journalModeOf, mayBeDatabase } from '../sqlite/header.ts';
import { databasePart } from '../sqlite/recognise.ts';
import { walkTree, type WalkRules } from '../tree/walk.ts';
import type { DeltaWriter } from './delta.ts';
import type { DatabasePart, MarkedBody, MarkedFile } from './marked.ts';
import { isAtRest, MarkedDatabase } from './marked-databases.ts';
import { keyOf, type NoteReader } from './note.ts';
import type { CopyLimits, ScratchCopies } from './scratch-copies.ts';

type FileStep = Extract<LiveStep, { kind: 'entry' }>;

/** After this many entries, other marks get their turn. */
const entriesPerTurn = 256;
/** A database in WAL mode that is larger is read by SQLite: a copy would make the pause longer. */
const copiedDatabaseBytesMax = 32 << 20;
/** How often a file is copied again that changes meanwhile although nobody should write. */
const copiesMax = 2;

/** One tree at the moment of the cut. */
export interface MarkTreeOptions {
  readonly root: OpenDirectory;
  /** Where that is. */
  readonly live: string;
  readonly rules: WalkRules;
  readonly note: NoteReader;
  readonly delta: DeltaWriter;
  readonly copies: ScratchCopies;
  /** Copies of files of which more names are to come, by the file; shared by all trees. */
  readonly linked: Map<string, MarkedBody>;
  readonly limits: CopyLimits;
  readonly isLate: () => boolean;
  /** Nobody who may write runs. */
  readonly isQuiet: boolean;
  readonly nowNs: bigint;
  /** Told of a file that is not fixed: it did not fit, or changed while it was copied. */
  readonly onUnfixed: (path: string, sizeBytes: number) => void;
  /** Told of what cannot be read of an entry that is recorded all the same. */
  readonly onMissing: (path: string, error: unknown) => void;
}

/** The databases of a tree, by path. */
export type MarkedDatabases = ReadonlyMap<string, MarkedDatabase>;

/**
 * Compares a tree with its note and fixes what is different.
 * @returns its databases; undefined when the time was over before its end
 */
export async function markTree(options: MarkTreeOptions): Promise<MarkedDatabases | undefined> {
  const mark = new TreeMark(options);
  try {
    if (await mark.run()) return mark.databases;
  } catch (error) {
    mark.letGo();
    throw error;
  }
  mark.letGo();
  return undefined;
}

class TreeMark {
  readonly databases = new Map<string, MarkedDatabase>();
  readonly #options: MarkTreeOptions;

  constructor(options: MarkTreeOptions) {
    this.#options = options;
  }

  letGo(): void {
    for (const database of this.databases.values()) database[Symbol.dispose]();
  }

  async run(): Promise<boolean> {
    const { root, rules, delta, limits, isLate } = this.#options;
    let steps = 0;
    for (const step of walkTree(root, rules)) {
      if (step.kind === 'leave') continue;
      if (++steps % entriesPerTurn === 0) {
        throwIfAborted(limits.signal);
        if (isLate()) return false;
        await setImmediate();
      }
      await this.#visit(step);
    }
    delta.finish();
    return true;
  }

  async #visit(step: LiveStep): Promise<void> {
    const { note, delta } = this.#options;
    const part = databasePart(step.path, (path) => this.databases.has(path));
    // Lines of the note that no step is about are passed over with the next.
    if (part?.suffix === '-shm') return;
    const key = keyOf(step);
    if (!note.isSame(key)) delta.drop(note.skipTo(step.path));
    if (note.isSame(key) && this.#isStill(step, part)) {
      delta.same();
      note.next();
      return;
    }
    if (note.isAt(step.path)) {
      delta.drop(1);
      note.next();
    }
    await this.#putChanged(step, part);
  }

  /** False for a file of a database that is read by SQLite. Everything else is as the note has it. */
  #isStill(step: LiveStep, part: DatabasePart | undefined): boolean {
    const noted = this.#options.note.databaseFile;
    if (noted?.database === undefined || step.kind !== 'entry') return part === undefined;
    const { suffix, copy } = noted.database;
    const database =
      suffix === ''
        ? this.#begin(noted, step, noted.database.journal)
        : this.databases.get(noted.database.of);
    const isBody = noted.body.from === 'scratch';
    database?.add(suffix, copy, isBody);
    return database?.isTransaction !== true;
  }

  #begin(
    file: Pick<MarkedFile, 'path' | 'identity'>,
    { parent, name }: FileStep,
    journal: DatabasePart['journal'],
  ): MarkedDatabase {
    const { live, copies, isQuiet, nowNs } = this.#options;
    const database = new MarkedDatabase({ ...file, journal }, live, copies);
    this.databases.set(file.path, database);
    if (!isQuiet && !isAtRest(parent, name, nowNs)) database.leave();
    return database;
  }

  async #putChanged(step: LiveStep, part: DatabasePart | undefined): Promise<void> {
    const { delta, onMissing } = this.#options;
    const entry = entryOf(step, (error) => onMissing(step.path, error));
    if (entry === undefined) return;
    if (entry.type !== 'file' || step.kind !== 'entry') {
      if (entry.type !== 'file') delta.put(entry);
      return;
    }
    const marked = await this.#fix(entry, step, part);
    if (marked !== undefined) delta.put(marked);
  }

  /** Undefined when it is gone. */
  async #fix(
    entry: FileEntry,
    step: FileStep,
    given: DatabasePart | undefined,
  ): Promise<MarkedFile | undefined> {
    const { identity, path } = entry;
    const { linked, limits, onUnfixed } = this.#options;
    const file = HardLinks.keyOf(identity);
    const known = hasSeveralNames(identity) ? linked.get(file) : undefined;
    if (known !== undefined) return { ...entry, body: known };
    let live: MarkedFile = { ...entry, body: { from: 'live', isProven: false } };
    let descriptor: number | undefined;
    try {
      descriptor = step.parent.openFile(step.name, constants.O_RDONLY | constants.O_NONBLOCK);
      const part = given ?? this.#databaseIn(descriptor, entry, step);
      const database = part && this.databases.get(part.of);
      if (part !== undefined) live = { ...live, database: part };
      if (database?.isTransaction === true || this.#isHeld(database, entry)) return live;
      const fixed = await this.#copy(entry, descriptor);
      if (fixed === undefined) {
        // No copy of its other files is captured then.
        if (database?.hold() !== true) onUnfixed(path, entry.diskBytes);
        return live;
      }
      const body = { from: 'scratch', copy: fixed.copy } as const;
      database?.add(part?.suffix ?? '', fixed.copy, true);
      if (hasSeveralNames(identity)) linked.set(file, body);
      return { ...entry, ...fixed.now, body, ...(part === undefined ? {} : { database: part }) };
    } catch (error) {
      throwIfAborted(limits.signal);
      if (hasVanished(error)) return undefined;
      // What is wrong is found, and recorded, when it is read after the pause.
      return live;
    } finally {
      if (descriptor !== undefined) closeSync(descriptor);
    }
  }

  /** In WAL mode a transaction takes a millisecond and stops nobody, so a large database is not copied during the pause. */
  #isHeld(database: MarkedDatabase | undefined, { path, identity }: FileEntry): boolean {
    if (database?.path !== path || database.journal !== 'wal') return false;
    return identity.sizeBytes > copiedDatabaseBytesMax && database.hold();
  }

  #databaseIn(descriptor: number, entry: FileEntry, step: FileStep): DatabasePart | undefined {
    const journal = mayBeDatabase(step.stats) ? journalModeOf(descriptor) : undefined;
    if (journal === undefined) return undefined;
    this.#begin(entry, step, journal);
    return { of: entry.path, suffix: '', journal };
  }

  /** Undefined when it does not fit, or never rests. */
  async #copy(
    entry: FileEntry,
    descriptor: number,
  ): Promise<{ copy: string; now: Omit<FileEntry, 'type' | 'path'> } | undefined> {
    const { path, attributes } = entry;
    const { copies, limits } = this.#options;
    for (let attempt = 1; attempt <= copiesMax; attempt++) {
      const before = fstatSync(descriptor, { bigint: true });
      const copy = await copies.copy(descriptor, limits);
      if (copy === undefined) return undefined;
      const after = fstatSync(descriptor, { bigint: true });
      if (keyOf({ path, stats: before }) === keyOf({ path, stats: after })) {
        const now = { identity: fileIdentity(after), diskBytes: diskBytesOf(after) };
        return { copy, now: { ...now, attributes: { ...attributes, ...attributesOf(after) } } };
      }
      copies.remove(copy);
    }
    return undefined;
  }
}
