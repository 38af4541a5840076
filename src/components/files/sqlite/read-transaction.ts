import { lstatSync, readdirSync, statSync } from 'node:fs';
import { backup, DatabaseSync } from 'node:sqlite';
import { TarsError, toTarsError } from '../../../model/errors.ts';
import type { FileIdentity } from '../../../ports/artifacts.ts';
import { companionSuffixes } from './header.ts';

/** How long a commit of its program may keep us from the first look. */
const busyMs = 1_000;
const pagesAtOnce = 10_000;

/**
 * A database in use, as it was when this was opened. Its program commits on meanwhile in WAL mode; with a rollback
 * journal its commits wait for the end of this, so it should not last.
 */
export interface HeldDatabase extends Disposable {
  /** Writes all of it to a new file, which nothing else belongs to. @throws TarsError */
  copyTo(path: string): Promise<void>;
}

/**
 * Opens a database that its program may have open, and fixes its state.
 * Nothing in this process may open and close the same file meanwhile: that would take SQLite's locks away.
 * @param identity of the file that is meant: whoever may write beside it could lead the path elsewhere
 * @param waitMs how long it may wait for a commit of its program
 * @throws TarsError `capture-failed` when it cannot be read now
 */
export function holdDatabase(path: string, identity: FileIdentity, waitMs = busyMs): HeldDatabase {
  let database: DatabaseSync | undefined;
  try {
    requireRegularParts(path);
    database = new DatabaseSync(path, { readOnly: true, timeout: waitMs });
    // The first read begins the transaction.
    database.exec('BEGIN; SELECT count(*) FROM sqlite_schema');
    requireRegularParts(path);
    requireOpened(path, identity);
    return hold(database, path);
  } catch (cause) {
    database?.close();
    throw toTarsError(cause, `Cannot read the database ${path} while it is in use`);
  }
}

const hold = (database: DatabaseSync, path: string): HeldDatabase => ({
  async copyTo(target) {
    try {
      await backup(database, target, { rate: pagesAtOnce });
    } catch (cause) {
      throw toTarsError(cause, `Cannot copy the database ${path}`);
    }
  },
  [Symbol.dispose]: () => database.close(),
});

/** SQLite follows links, and creates what is missing where they lead. */
function requireRegularParts(path: string): void {
  for (const suffix of ['', '-shm', ...companionSuffixes]) {
    const stats = lstatSync(path + suffix, { throwIfNoEntry: false });
    if (stats !== undefined && !stats.isFile())
      throw new TarsError('capture-failed', `${path}${suffix} is not a regular file`);
  }
}

/** @throws TarsError when no file that this process has open is the one that is meant */
function requireOpened(path: string, { inode, deviceId }: FileIdentity): void {
  const isOpen = readdirSync('/proc/self/fd').some((name) => {
    const stats = statSync(`/proc/self/fd/${name}`, { bigint: true, throwIfNoEntry: false });
    return stats?.ino === inode && (deviceId === undefined || stats.dev === deviceId);
  });
  if (!isOpen)
    throw new TarsError('capture-failed', `Another program replaced ${path} while it was opened`, {
      hint: 'Run the backup again. If this happens each time, declare the service that replaces it as a writer, so that tars pauses it.',
    });
}
