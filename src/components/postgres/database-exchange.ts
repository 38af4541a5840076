import { z } from 'zod';
import { messageOf, TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { invalidDatabase } from './databases.ts';
import { identifier, literal } from './names.ts';
import { sqlState, type Session } from './connection/session.ts';

/** Names of all databases by OID, read again before every decision. */
export async function namesByOid(control: Session, signal: AbortSignal): Promise<Map<number, string>> {
  const rows = await control.rows(
    z.object({ oid: z.number(), name: z.string() }),
    'SELECT oid::bigint::float8 AS oid, datname AS name FROM pg_database',
    signal,
  );
  return new Map(rows.map(({ oid, name }) => [oid, name]));
}

/** The OID of each named database that exists. */
export async function databaseOids(control: Session, signal: AbortSignal): Promise<Map<string, number>> {
  return new Map([...(await namesByOid(control, signal))].map(([oid, name]) => [name, oid]));
}

/** How long tars waits for a database without sessions that something still holds. */
const lockTimeoutMs = 5_000;
/** Removing the files of a large database, and the checkpoint before it, may take a while. */
const dropTimeoutMs = 120_000;

/**
 * Drops a database and whatever sessions are in it; none is no error. One that an interrupted DROP DATABASE left
 * invalid is dropped as well.
 * @throws TarsError `restore-failed` when something holds the database for longer than its time-outs
 */
export async function dropDatabase(control: Session, name: string, signal: AbortSignal): Promise<void> {
  await control.run(`SET lock_timeout = ${lockTimeoutMs}; SET statement_timeout = ${dropTimeoutMs}`, signal);
  try {
    await dropWithin(control, name, signal);
  } catch (error) {
    // query_canceled, lock_not_available, object_in_use
    if (!['57014', '55P03', '55006'].includes(sqlState(error) ?? '')) throw error;
    throw new TarsError('restore-failed', `Database "${name}" cannot be dropped: ${messageOf(error)}`, {
      hint: `Find the session that holds it in pg_locks and pg_stat_activity, end that session, then run: DROP DATABASE ${identifier(name)}`,
      cause: error,
    });
  } finally {
    if (!signal.aborted)
      await control.run('SET lock_timeout = 0; SET statement_timeout = 0', signal).catch(() => undefined);
  }
}

async function dropWithin(control: Session, name: string, signal: AbortSignal): Promise<void> {
  const [found] = await control.rows(
    z.object({ invalid: z.boolean() }),
    `SELECT datconnlimit = ${invalidDatabase} AS invalid FROM pg_database WHERE datname = $1`,
    signal,
    [name],
  );
  if (found === undefined) return;
  // The server ends a session that would alter an invalid one.
  if (!found.invalid) await control.run(allowConnections(name, false), signal);
  await terminateSessions(control, [name], signal);
  await control.run(`DROP DATABASE IF EXISTS ${identifier(name)}`, signal);
}

/** The statement that gives a database another name; nobody may be in it when it runs. */
export const rename = (from: string, to: string): string =>
  `ALTER DATABASE ${identifier(from)} RENAME TO ${identifier(to)}`;

/** The statement that opens a database to sessions, or closes it to new ones. */
export const allowConnections = (name: string, allow: boolean): string =>
  `ALTER DATABASE ${identifier(name)} ALLOW_CONNECTIONS ${allow}`;

async function terminateSessions(
  control: Session,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await control.run(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname IN (${names.map(literal).join(', ')}) AND pid <> pg_backend_pid()`,
    signal,
  );
}

const exchangeAttempts = 5;

/**
 * Closes the databases in `moving`, ends their sessions and runs `statements` in one transaction. PostgreSQL
 * itself waits up to five seconds for ending sessions before a rename fails with object_in_use.
 * When it does not work out, the databases accept connections again.
 */
export async function exchange(
  control: Session,
  moving: readonly string[],
  statements: readonly string[],
  { signal }: OperationContext,
): Promise<void> {
  if (statements.length === 0) return;
  const existing = new Set((await namesByOid(control, signal)).values());
  const closing = moving.filter((name) => existing.has(name));
  try {
    for (const name of closing) await control.run(allowConnections(name, false), signal);
    for (let attempt = 1; ; attempt++) {
      if (closing.length > 0) await terminateSessions(control, closing, signal);
      try {
        await inTransaction(control, statements, signal);
        return;
      } catch (error) {
        if (sqlState(error) !== '55006' || attempt === exchangeAttempts) throw error;
      }
    }
  } catch (error) {
    for (const name of closing) {
      await control.run(allowConnections(name, true), signal).catch(() => undefined);
    }
    throw error;
  }
}

async function inTransaction(
  control: Session,
  statements: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await control.run('BEGIN', signal);
  try {
    for (const statement of statements) await control.run(statement, signal);
    await control.run('COMMIT', signal);
  } catch (error) {
    await control.run('ROLLBACK', signal).catch(() => undefined);
    throw error;
  }
}
