import { fchmodSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { isThere } from '../../disk/is-there.ts';
import { isSameFile, OpenDirectory } from '../../disk/open-directory.ts';
import { openPath } from '../../disk/open-path.ts';
import { removeTree } from '../../disk/remove-tree.ts';
import { hasErrno, RestoreRefusedError, TarsError } from '../../model/errors.ts';
import { ensureAlong, openAlong, openAlongIfThere, splitPath } from './tree/along.ts';
import { directoryAttributes, resetDirectory, type OnUnset } from './tree/attributes.ts';
import { contentName, keepingTime, type TreeExchange } from './exchange/exchange.ts';
import { directoriesAbove, findKept } from './tree/kept.ts';
import { ownName, type TreeScope } from './tree/scope.ts';
import {
  decodeAttributes,
  encodeAttributes,
  incomingName,
  noteName,
  Notes,
  type ExchangeNote,
  type Incoming,
} from './exchange/swap-note.ts';

/*
 * A tree is exchanged in steps, of which each leaves a state that can be told from what lies where:
 *  1. The note is written into the previous directory: which directories stay themselves, and what stays in them.
 *  2. What is live moves into the previous directory, but for what stays.
 *  3. The list of what is about to come is written beside the note.
 *  4. What is staged moves into the tree, and the directories that stayed get their attributes.
 *  5. The staged directory goes.
 * Where nothing stays, the tree's own directory is what moves, and there is one move in each of 2 and 4.
 */

/** What an exchange has to know of its context. */
interface SwapContext {
  /** The entries of the live tree that do not belong to the snapshot. */
  readonly scopeOf: (live: {
    readonly path: string;
    readonly directory: OpenDirectory;
  }) => Promise<TreeScope>;
  readonly onUnset: OnUnset;
}

/** Puts the staged tree in place. Can be run again after a crash. */
export async function swapTree(exchange: TreeExchange, { scopeOf, onUnset }: SwapContext): Promise<void> {
  using place = await Place.open(exchange);
  using staged = place.openStaged();
  if (staged === undefined) {
    if (await place.isSwapped()) return;
    throw place.stagedIsReplaced();
  }
  using previous = await place.openPrevious();
  const notes = place.notesIn(previous);
  const note = (await notes.readNote()) ?? (await makeNote(place, staged, scopeOf));
  await notes.writeNote(note);
  await place.holder.sync();
  if (note.whole) await swapWhole(place, staged, previous, note);
  else await swapEntries(place, staged, previous, note, onUnset);
  await place.keepingTime(() => removeTree(place.holder, exchange.staged));
}

/** The directory in which an exchange takes place. */
class Place implements Disposable {
  readonly exchange: TreeExchange;
  readonly holder: OpenDirectory;

  private constructor(exchange: TreeExchange, holder: OpenDirectory) {
    this.exchange = exchange;
    this.holder = holder;
  }

  static async open(exchange: TreeExchange): Promise<Place> {
    return new Place(exchange, (await openPath(exchange.holder)).directory);
  }

  /** The tree's name in the holder; undefined when that is the tree itself. */
  get name(): string | undefined {
    const { live, holder } = this.exchange;
    return live === holder ? undefined : splitPath(live).name;
  }

  /** @throws TarsError when something else lies there */
  openStaged(): OpenDirectory | undefined {
    const { staged, stagedFile } = this.exchange;
    const directory = openAlongIfThere(this.holder, staged);
    if (directory === undefined) return undefined;
    const { dev, ino } = directory.stat();
    if (`${dev}:${ino}` === stagedFile) return directory;
    directory.close();
    throw this.stagedIsReplaced();
  }

  /** The staged directory goes when all of it is in place. */
  async isSwapped(): Promise<boolean> {
    using previous = this.openPreviousIfThere();
    return previous !== undefined && (await this.notesIn(previous).readIncoming()) !== undefined;
  }

  stagedIsReplaced(): TarsError {
    const { staged, holder } = this.exchange;
    return new TarsError(
      'restore-failed',
      `${holder}/${staged} is not the data that tars staged: someone replaced it`,
      {
        hint: 'Find out who may write to the directory it is in. Move this one away, then run the restore again.',
      },
    );
  }

  notesIn(previous: OpenDirectory): Notes {
    const { holder, previous: name, noteKey } = this.exchange;
    return new Notes(previous, noteKey, `${holder}/${name}`);
  }

  /** @throws TarsError when somebody else may have put something in it */
  async openPrevious(): Promise<OpenDirectory> {
    const existing = openAlongIfThere(this.holder, this.exchange.previous);
    if (existing !== undefined) return this.requirePrivate(existing);
    return this.keepingTime(() => this.holder.createDirectory(this.exchange.previous));
  }

  /**
   * After the exchange: a service that started since may have made it its own.
   * @throws TarsError when nothing proves that its notes are those of tars
   */
  openPreviousIfThere(): OpenDirectory | undefined {
    const directory = openAlongIfThere(this.holder, this.exchange.previous);
    if (directory === undefined || this.exchange.noteKey !== undefined) return directory;
    return this.requirePrivate(directory);
  }

  private requirePrivate(directory: OpenDirectory): OpenDirectory {
    if (directory.isPrivate) return directory;
    directory.close();
    const path = `${this.exchange.holder}/${this.exchange.previous}`;
    throw new TarsError(
      'restore-failed',
      `Cannot use ${path}: another user owns it, or may write there, so it may not be what tars created`,
      {
        hint: 'Look at what it holds, and at who may write to the directory above it. Move it away, then run the restore again.',
      },
    );
  }

  keepingTime<T>(work: () => Promise<T>): Promise<T> {
    return keepingTime(this.holder, this.name === undefined, work);
  }

  openLive(): OpenDirectory | undefined {
    return openAlongIfThere(this.holder, this.name ?? '');
  }

  [Symbol.dispose](): void {
    this.holder.close();
  }
}

async function makeNote(
  place: Place,
  staged: OpenDirectory,
  scopeOf: SwapContext['scopeOf'],
): Promise<ExchangeNote> {
  const { live: path } = place.exchange;
  using live = place.openLive();
  if (live === undefined)
    return {
      whole: true,
      hadLive: place.name !== undefined && place.holder.lstat(place.name) !== undefined,
      directories: [],
    };
  using content = staged.openDirectory(contentName);
  const kept = findKept(live, await scopeOf({ path, directory: live }), content);
  if (kept.size === 0 && place.name !== undefined) return { whole: true, hadLive: true, directories: [] };
  const directories = directoriesAbove(kept.keys()).map(({ path: above, keep }) => {
    using directory = openAlong(live, above);
    requireDirectoryIn(content, above, path);
    return { path: above, keep, before: encodeAttributes(directoryAttributes(directory)) };
  });
  return { whole: false, hadLive: true, directories };
}

/** What stays in a directory can only stay where the snapshot has a directory, or nothing. */
function requireDirectoryIn(content: OpenDirectory, path: string, live: string): void {
  const { above, name } = splitPath(path);
  if (path === '') return;
  using parent = openAlongIfThere(content, above);
  const stats = parent?.lstat(name);
  if (stats === undefined || stats.isDirectory()) return;
  throw new RestoreRefusedError(
    `${live}/${path} is a file in the snapshot, but here it is a directory that holds something that must stay`,
    { hint: 'Move that to another place, then run the restore again.' },
  );
}

async function swapWhole(
  place: Place,
  staged: OpenDirectory,
  previous: OpenDirectory,
  { hadLive }: ExchangeNote,
): Promise<void> {
  const { exchange, holder, name = '' } = place;
  const notes = place.notesIn(previous);
  if ((await notes.readIncoming()) === undefined) {
    if (hadLive && previous.lstat(contentName) === undefined) await move(holder, name, previous, contentName);
    await previous.sync();
    await holder.sync();
    await notes.writeIncoming([]);
  }
  const content = staged.lstat(contentName);
  if (content === undefined) return;
  requireFree(holder, name, exchange.live);
  await move(staged, contentName, holder, name);
  await holder.sync();
  if (isSameFile(holder.lstat(name), content)) return;
  throw new TarsError('restore-failed', `Another program replaced ${exchange.live} while it was restored`, {
    hint: 'Stop the program that writes there, then run the restore again.',
  });
}

function requireFree(directory: OpenDirectory, name: string, path: string): void {
  if (directory.lstat(name) === undefined) return;
  throw new RestoreRefusedError(`${path} was created after its replacement was staged`, {
    hint: 'Stop everything that writes there, then run the restore again.',
  });
}

async function swapEntries(
  place: Place,
  staged: OpenDirectory,
  previous: OpenDirectory,
  note: ExchangeNote,
  onUnset: OnUnset,
): Promise<void> {
  using live = openAlong(place.holder, place.name ?? '');
  using content = staged.openDirectory(contentName);
  using aside = await ensureAlong(previous, contentName);
  const notes = place.notesIn(previous);
  let incoming = await notes.readIncoming();
  if (incoming === undefined) {
    for (const { path, keep } of note.directories) {
      using from = openAlong(live, path);
      using to = await ensureAlong(aside, path);
      await moveAll(from, to, movable(from, keep, path));
    }
    incoming = note.directories.map(({ path, keep }) => incomingOf(content, path, keep));
    await notes.writeIncoming(incoming);
  }
  for (const { path, names } of incoming) {
    using from = openAlongIfThere(content, path);
    if (from === undefined) continue;
    using to = openAlong(live, path);
    const left = names.filter((name) => from.lstat(name) !== undefined);
    for (const name of left) requireFree(to, name, `${place.exchange.live}/${path}/${name}`);
    await moveAll(from, to, left);
  }
  // The innermost first: what is above would get another time.
  for (const { path, after } of incoming.toReversed()) {
    if (after === undefined) continue;
    using directory = openAlong(live, path);
    resetDirectory(directory, decodeAttributes(after), onUnset);
  }
}

/** Attributes are read before anything moves out, which changes the time. */
function incomingOf(content: OpenDirectory, path: string, keep: readonly string[]): Incoming[number] {
  using from = openAlongIfThere(content, path);
  if (from === undefined) return { path, names: [] };
  const after = encodeAttributes(directoryAttributes(from));
  return { path, names: movable(from, keep, path), after };
}

/** All entries but those that stay, and what restores of this place or of others in it work with. */
function movable(directory: OpenDirectory, keep: readonly string[], path: string): string[] {
  const stays = new Set(keep);
  return directory
    .names()
    .filter((name) => !stays.has(name) && !ownName.test(name) && (path !== '' || name !== 'lost+found'));
}

/** Only who may write in a directory can give it another parent: for all but root that may take a moment's right. */
async function move(from: OpenDirectory, name: string, to: OpenDirectory, newName: string): Promise<void> {
  try {
    await from.rename(name, to, newName);
  } catch (error) {
    if (!hasErrno(error, 'EACCES')) throw error;
    using moved = openAlongIfThere(from, name);
    if (moved === undefined) throw error;
    const mode = Number(moved.stat().mode & 0o7777n);
    fchmodSync(moved.descriptor, mode | 0o700);
    try {
      await from.rename(name, to, newName);
    } finally {
      fchmodSync(moved.descriptor, mode);
    }
  }
}

/** Gives the owner of a directory the right to change it meanwhile, where the mode does not: only root needs none. */
function openForMoves(directory: OpenDirectory): Disposable {
  const { mode, uid } = directory.stat();
  if ((mode & 0o300n) === 0o300n || Number(uid) !== process.geteuid?.())
    return { [Symbol.dispose]: () => undefined };
  const before = Number(mode & 0o7777n);
  fchmodSync(directory.descriptor, before | 0o300);
  return { [Symbol.dispose]: () => fchmodSync(directory.descriptor, before) };
}

/** How many moves happen before other work gets its turn. */
const movesPerTurn = 500;

async function moveAll(from: OpenDirectory, to: OpenDirectory, names: readonly string[]): Promise<void> {
  let moves = 0;
  using _from = openForMoves(from);
  using _to = openForMoves(to);
  for (const name of names) {
    await move(from, name, to, name);
    if (++moves % movesPerTurn === 0) await setImmediate();
  }
  await to.sync();
  await from.sync();
}

/**
 * Puts everything back as it was before {@link swapTree}, from whatever state it was left in. Idempotent.
 * @param warn told what is kept under another name, because it is neither the previous nor the restored data
 */
export async function undoTree(
  exchange: TreeExchange,
  warn: (message: string) => void,
  onUnset: OnUnset,
): Promise<void> {
  if (!(await isThere(exchange.holder))) return;
  using place = await Place.open(exchange);
  using previous = place.openPreviousIfThere();
  if (previous !== undefined) {
    const note = await place.notesIn(previous).readNote();
    if (note !== undefined) {
      if (note.whole) await undoWhole(place, previous, warn);
      else await undoEntries(place, previous, note, warn, onUnset);
    }
    await place.keepingTime(() => clearPrevious(place, previous, note));
  }
  await place.keepingTime(() => removeTree(place.holder, exchange.staged));
}

async function undoWhole(
  place: Place,
  previous: OpenDirectory,
  warn: (message: string) => void,
): Promise<void> {
  const { exchange, holder, name = '' } = place;
  if ((await place.notesIn(previous).readIncoming()) !== undefined && holder.lstat(name) !== undefined) {
    using staged = await ensureAlong(holder, exchange.staged);
    if (staged.lstat(contentName) === undefined) await move(holder, name, staged, contentName);
    await staged.sync();
  }
  if (previous.lstat(contentName) === undefined) return;
  await putAway(holder, name, previous, `${exchange.holder}/${exchange.previous}`, exchange.live, warn);
  await move(previous, contentName, holder, name);
  await holder.sync();
}

async function undoEntries(
  place: Place,
  previous: OpenDirectory,
  note: ExchangeNote,
  warn: (message: string) => void,
  onUnset: OnUnset,
): Promise<void> {
  const { exchange, holder } = place;
  const incoming = await place.notesIn(previous).readIncoming();
  using live = await ensureAlong(holder, place.name ?? '');
  using aside = await ensureAlong(previous, contentName);
  using staged = await ensureAlong(holder, exchange.staged);
  using content = await ensureAlong(staged, contentName);
  for (const { path, names } of incoming ?? []) {
    using from = await ensureAlong(live, path);
    using to = await ensureAlong(content, path);
    const came = names.filter((name) => to.lstat(name) === undefined && from.lstat(name) !== undefined);
    await moveAll(from, to, came);
  }
  const stayed = new Set(note.directories.map(({ path }) => path));
  for (const { path } of note.directories) {
    using from = await ensureAlong(aside, path);
    using to = await ensureAlong(live, path);
    const names = from.names().filter((name) => !stayed.has(path === '' ? name : `${path}/${name}`));
    const where = `${exchange.holder}/${exchange.previous}`;
    for (const name of names)
      await putAway(to, name, previous, where, `${exchange.live}/${path}/${name}`, warn);
    await moveAll(from, to, names);
  }
  for (const { path, before } of note.directories.toReversed()) {
    using directory = openAlong(live, path);
    resetDirectory(directory, decodeAttributes(before), onUnset);
  }
}

/** What was created in the middle of the restore where something goes back. */
async function putAway(
  directory: OpenDirectory,
  name: string,
  previous: OpenDirectory,
  where: string,
  path: string,
  warn: (message: string) => void,
): Promise<void> {
  if (directory.lstat(name) === undefined) return;
  let stray = `stray-${name}`;
  for (let number = 2; previous.lstat(stray) !== undefined; number++) stray = `stray-${number}-${name}`;
  await move(directory, name, previous, stray);
  warn(`${path} was created again during the restore; the new one is kept as ${where}/${stray}`);
}

/**
 * Nothing of the note is needed any more. The list of what came goes first: without it nothing live is ever taken for
 * what was restored.
 */
async function clearPrevious(
  { exchange, holder }: Place,
  previous: OpenDirectory,
  note: ExchangeNote | undefined,
): Promise<void> {
  await removeTree(previous, incomingName);
  await previous.sync();
  for (const { path } of note?.directories.toReversed() ?? []) {
    await removeIfEmpty(previous, path === '' ? contentName : `${contentName}/${path}`);
  }
  await removeTree(previous, noteName);
  await removeTree(previous, `${noteName}.tmp`);
  await removeTree(previous, `${incomingName}.tmp`);
  await removeIfEmpty(holder, exchange.previous);
  await holder.sync();
}

async function removeIfEmpty(from: OpenDirectory, path: string): Promise<void> {
  const { above, name } = splitPath(path);
  using parent = openAlongIfThere(from, above);
  try {
    await parent?.rmdir(name);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT') && !hasErrno(error, 'ENOTEMPTY')) throw error;
  }
}

/** Deletes for good what {@link swapTree} replaced, and nothing that stayed. Idempotent. */
export async function discardPreviousTree(exchange: TreeExchange): Promise<void> {
  if (exchange.keepsPrevious) {
    throw new TarsError(
      'restore-refused',
      `${exchange.holder}/${exchange.previous} may be the only copy of files that the snapshot does not hold and does not name`,
      { hint: 'Check what the snapshot does not hold (tars show), then delete the directory yourself.' },
    );
  }
  if (!(await isThere(exchange.holder))) return;
  using place = await Place.open(exchange);
  await place.keepingTime(() => removeTree(place.holder, exchange.previous));
}
