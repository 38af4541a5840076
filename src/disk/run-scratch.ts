import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { lstat, mkdir, mkdtemp, readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, toTarsError } from '../model/errors.ts';
import { isThere } from './is-there.ts';
import { lockFile } from './kernel-lock.ts';
import { makeDirectories } from './make-directories.ts';

/** A private directory (0700) below that of this run. Disposing removes it with all that is in it. */
export interface ScratchDirectory extends AsyncDisposable {
  readonly path: string;
}

/** One name for as long as this process lives, so that a directory of a fixed name is found where it was. */
const runName = `tars-run-${process.pid}-${randomBytes(4).toString('hex')}`;
const runNames = /^tars-run-\d+-[0-9a-f]{8}$/;
/** Marks a directory as one of these, and is locked as long as its process lives. */
const lockName = 'lock';
/** Another run may just be looking whether somebody holds it. */
const lockWaitMs = 500;
const attemptsMax = 5;

/** The run's directory in one place. It is there, and locked, as long as anything in it is in use. */
class RunDirectory {
  readonly path: string;
  readonly #base: string;
  #lock: Disposable | undefined;
  #users = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(base: string) {
    this.#base = base;
    this.path = join(base, runName);
  }

  /** @param id makes the name a fixed one, whose earlier content is removed */
  open(kind: string, id: string | undefined): Promise<ScratchDirectory> {
    return this.#inTurn(async () => {
      this.#lock ??= await this.#create();
      this.#users += 1;
      try {
        return this.#use(await this.#makeDirectory(kind, id));
      } catch (error) {
        await this.#leave();
        throw error;
      }
    });
  }

  async #makeDirectory(kind: string, id: string | undefined): Promise<string> {
    if (id === undefined) return mkdtemp(join(this.path, `${kind}-`));
    const path = join(this.path, `${kind}-${id}`);
    await rm(path, { recursive: true, force: true });
    await mkdir(path, { mode: 0o700 });
    return path;
  }

  #use(path: string): ScratchDirectory {
    let isOpen = true;
    return {
      path,
      [Symbol.asyncDispose]: async () => {
        if (!isOpen) return;
        isOpen = false;
        try {
          await rm(path, { recursive: true, force: true });
        } finally {
          await this.#inTurn(() => this.#leave());
        }
      },
    };
  }

  async #leave(): Promise<void> {
    this.#users -= 1;
    if (this.#users > 0) return;
    await removeRun(this.path);
    this.#lock?.[Symbol.dispose]();
    this.#lock = undefined;
  }

  /** A run that looks for what others left may take the directory for one of those, until it is locked. */
  async #create(): Promise<Disposable> {
    await makeDirectories(this.#base, 0o700);
    for (let attempt = 1; attempt <= attemptsMax; attempt += 1) {
      await mkdir(this.path, { mode: 0o700 }).catch((error: unknown) => {
        if (!hasErrno(error, 'EEXIST')) throw error;
      });
      const lock = lockFile(join(this.path, lockName), lockWaitMs);
      if (lock !== undefined && (await isThere(join(this.path, lockName)))) return lock;
      lock?.[Symbol.dispose]();
    }
    throw new Error(`${this.path} cannot be locked`);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /** For the end of the process, when nothing asynchronous happens any more. */
  removeNow(): void {
    if (this.#lock !== undefined) rmSync(this.path, { recursive: true, force: true });
  }
}

const opened = new Map<string, RunDirectory>();

/**
 * Makes a directory for what must not outlive this run, below the one directory that the run has in `base`. That one
 * is locked by this process: however it ends, the next run of tars there removes it.
 * @param id where the same path is needed again in this run; without, it is a new one each time
 * @throws TarsError when it cannot be made or locked
 */
export async function openScratch(base: string, kind: string, id?: string): Promise<ScratchDirectory> {
  if (opened.size === 0) {
    process.once('exit', () => {
      for (const run of opened.values()) run.removeNow();
    });
  }
  const run = opened.get(base) ?? new RunDirectory(base);
  opened.set(base, run);
  try {
    return await run.open(kind, id);
  } catch (cause) {
    throw toTarsError(cause, `Cannot create a scratch directory in ${base}`);
  }
}

/** What runs that were killed left in `base`: their directories, whose lock nobody holds. */
export async function abandonedScratch(base: string): Promise<readonly string[]> {
  return (await lookThrough(base, () => Promise.resolve())).done;
}

/**
 * Removes what runs left that were killed: directories of this user whose lock nobody holds. What cannot be removed is
 * reported as `failed` and stays.
 */
export async function removeAbandonedScratch(
  base: string,
): Promise<{ readonly removed: readonly string[]; readonly failed: readonly string[] }> {
  const { done, failed } = await lookThrough(base, removeRun);
  return { removed: done, failed };
}

/** Calls `handle` with each abandoned directory while it holds its lock. */
async function lookThrough(
  base: string,
  handle: (path: string) => Promise<void>,
): Promise<{ readonly done: readonly string[]; readonly failed: readonly string[] }> {
  const [done, failed]: [string[], string[]] = [[], []];
  // One that cannot be read is named by whatever needs scratch there.
  const names = await readdir(base).catch(() => []);
  for (const name of names.filter((each) => runNames.test(each) && each !== runName)) {
    const path = join(base, name);
    try {
      if (!(await isOurs(path))) continue;
      using lock = lockFile(join(path, lockName));
      if (lock === undefined) continue;
      await handle(path);
      done.push(path);
    } catch {
      failed.push(path);
    }
  }
  return { done, failed };
}

/** A directory of this user that nobody else can enter, with the file that marks it. */
async function isOurs(path: string): Promise<boolean> {
  const [directory, lock] = await Promise.all(
    [path, join(path, lockName)].map((each) => lstat(each).catch(() => undefined)),
  );
  const user = process.getuid?.();
  return (
    directory?.isDirectory() === true &&
    (directory.mode & 0o077) === 0 &&
    directory.uid === user &&
    lock?.isFile() === true &&
    lock.uid === user
  );
}

/** The mark goes last, so that what a crash leaves of it is still known as abandoned. */
async function removeRun(path: string): Promise<void> {
  for (const name of await readdir(path)) {
    if (name !== lockName) await rm(join(path, name), { recursive: true, force: true });
  }
  await rm(join(path, lockName), { force: true });
  await rmdir(path);
}

const dayMs = 24 * 3_600_000;
/** What versions up to 1.0.12 put there, one by one and without a mark. */
const earlierNames = [
  /^archive-[A-Za-z0-9]{6}$/,
  /^chroma-[A-Za-z0-9]{6}$/,
  /^mirror-.+-[a-z0-9]{6,}$/,
  /^redis-[0-9a-f]{16}\.rdb$/,
  /^tars-command-[A-Za-z0-9]{6}$/,
];

/**
 * What lies in `base` as versions up to 1.0.12 left it when they were killed: of this user alone, and older than a day.
 * Nothing marks it as theirs, so it is only to be named.
 */
export async function earlierScratch(base: string, now: Date): Promise<readonly string[]> {
  const user = process.getuid?.();
  const found: string[] = [];
  const names = await readdir(base).catch(() => []);
  for (const name of names.filter((each) => earlierNames.some((pattern) => pattern.test(each)))) {
    const path = join(base, name);
    const stats = await lstat(path).catch(() => undefined);
    if (stats === undefined || stats.uid !== user || (stats.mode & 0o077) !== 0) continue;
    const isOfItsKind = name.endsWith('.rdb') ? stats.isFile() : stats.isDirectory();
    if (isOfItsKind && now.getTime() - stats.mtimeMs > dayMs) found.push(path);
  }
  return found;
}
