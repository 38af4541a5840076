import { openSync, closeSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { hasErrno } from '../model/errors.ts';
import { makeDirectoriesSync } from './make-directories.ts';

/**
 * Locks the file `path`, made with mode 0600 where it is missing, for this holder alone; undefined while another one
 * has it for longer than `waitMs`. SQLite's exclusive lock is a lock of the kernel's, which ends with the process:
 * nothing stale can be left, which no lock file of ours could promise.
 * @throws Error of the system or of SQLite when it cannot be made or locked at all
 */
export function lockFile(path: string, waitMs = 0): Disposable | undefined {
  makeDirectoriesSync(dirname(path), 0o700);
  createPrivate(path);
  const database = new DatabaseSync(path);
  try {
    database.exec(`PRAGMA busy_timeout = ${waitMs}; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE`);
  } catch (error) {
    database.close();
    if (error instanceof Error && error.message.includes('locked')) return undefined;
    throw error;
  }
  return { [Symbol.dispose]: () => database.close() };
}

/** Leaves one that exists alone: closing any descriptor of it would end a lock this process holds on it. */
function createPrivate(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
  }
}
