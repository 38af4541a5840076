/**
 * A process whose only business is one connection to one SQLite file. POSIX locks of a process die when it closes
 * any descriptor of the file, so whoever copies the file must not be whoever locks it: this process opens the file
 * once and never again.
 *
 * argv: the path of `chroma.sqlite3`. Commands on stdin, one a line: `lock <timeoutMs> <holdMaxMs>`, `release`,
 * `probe`. Each answers with one JSON line. It ends, and so unlocks, when stdin closes: nobody outlives its parent's
 * death holding the lock.
 */
import { DatabaseSync } from 'node:sqlite';
import { createInterface } from 'node:readline';
import { messageOf } from '../../../model/errors.ts';

/** Primary result code SQLITE_BUSY (https://www.sqlite.org/rescode.html#busy). */
const sqliteBusy = 5;
/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const damageCodes = new Set([11, 26]);
/** How long opening waits for a writer that is committing. */
const openTimeoutMs = 5000;

interface Answer {
  readonly state: 'ready' | 'locked' | 'busy' | 'free' | 'released' | 'expired' | 'error';
  readonly message?: string;
  readonly damaged?: boolean;
}

const answer = (value: Answer): void => {
  process.stdout.write(`${JSON.stringify(value)}\n`);
};

const path = process.argv[2] ?? '';
let database: DatabaseSync;
let expiry: NodeJS.Timeout | undefined;
let held = false;

function primaryCode(error: unknown): number {
  const code = (error as { readonly errcode?: unknown }).errcode;
  return typeof code === 'number' ? code & 0xff : 0;
}

function failure(error: unknown): Answer {
  return { state: 'error', message: messageOf(error), damaged: damageCodes.has(primaryCode(error)) };
}

/** Busy waiting happens inside SQLite, bounded by `timeoutMs`. */
function begin(timeoutMs: number): Answer {
  try {
    database.exec(`PRAGMA busy_timeout = ${timeoutMs}`);
    database.exec('BEGIN IMMEDIATE');
    return { state: 'locked' };
  } catch (error) {
    if (primaryCode(error) === sqliteBusy) return { state: 'busy' };
    return failure(error);
  }
}

function lock(timeoutMs: number, holdMaxMs: number): Answer {
  const begun = begin(timeoutMs);
  if (begun.state === 'locked') {
    held = true;
    expiry = setTimeout(() => {
      database.exec('ROLLBACK');
      held = false;
    }, holdMaxMs);
  }
  return begun;
}

function release(): Answer {
  clearTimeout(expiry);
  if (!held) return { state: 'expired' };
  database.exec('ROLLBACK');
  held = false;
  return { state: 'released' };
}

/** Whether another process could write now. */
function probe(): Answer {
  const begun = begin(0);
  if (begun.state !== 'locked') return begun;
  database.exec('ROLLBACK');
  return { state: 'free' };
}

function carryOut(line: string): Answer {
  const [command, timeoutMs = '0', holdMaxMs = '0'] = line.split(' ');
  switch (command) {
    case 'lock':
      return lock(Number(timeoutMs), Number(holdMaxMs));
    case 'release':
      return release();
    case 'probe':
      return probe();
    case undefined:
    default:
      return { state: 'error', message: `Unknown command ${line}` };
  }
}

try {
  database = new DatabaseSync(path);
  // Not the option, which Node 22.15 does not know.
  database.exec(`PRAGMA busy_timeout = ${openTimeoutMs}`);
  // Opening is lazy in SQLite: this reads the header, and rolls back what a crashed writer left.
  database.prepare('PRAGMA schema_version').get();
  answer({ state: 'ready' });
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => answer(carryOut(line)));
  lines.on('close', () => process.exit(0));
} catch (error) {
  answer(failure(error));
  process.exitCode = 1;
}
