import { z } from 'zod';
import { CorruptionError, TarsError } from '../../model/errors.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';
import type { Generation } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { identifier, literal, shellWord } from './names.ts';
import type { PostgresOptions } from './options.ts';
import { dropRoles } from './roles.ts';
import { openControlSession, sqlState, type Session } from './session.ts';

/**
 * One database to be exchanged. Databases are recognised by their OIDs, which a rename does not change: where
 * a crash or a person left them is then plain to see, and nothing else can be taken for them.
 */
const databaseSwapSchema = z.object({
  live: z.string(),
  staged: z.string(),
  previous: z.string(),
  stagedOid: z.number().int(),
  /** Null when there was no live database. */
  liveOid: z.number().int().nullable(),
});
export type DatabaseSwap = z.infer<typeof databaseSwapSchema>;

const detailsSchema = z.object({
  databases: z.array(databaseSwapSchema),
  createdRoles: z.array(z.string()),
});
export type SwapDetails = z.infer<typeof detailsSchema>;

/** The record an operation journals before the swap. */
export function swapRecord(options: PostgresOptions, details: SwapDetails): SwapRecord {
  return {
    component: options.name,
    kind: 'postgres',
    wayBack: details.databases.flatMap((swap) => wayBack(options, swap)),
    details,
  };
}

/** @throws CorruptionError when the journal holds something else */
export function parseSwapRecord(record: SwapRecord): SwapDetails {
  const parsed = detailsSchema.safeParse(record.details);
  if (parsed.success) return parsed.data;
  throw new CorruptionError(
    `The journalled swap of component ${record.component} is not readable: ${z.prettifyError(parsed.error)}`,
  );
}

function wayBack(options: PostgresOptions, { live, staged, previous, liveOid }: DatabaseSwap): string[] {
  const where = liveOid === null || live !== 'postgres' ? 'postgres' : 'template1';
  const connection = `psql -v ON_ERROR_STOP=1 -h ${shellWord(options.host)} -p ${options.port} -U ${shellWord(options.user)} -d ${where}`;
  const statements = [
    `ALTER DATABASE ${identifier(live)} ALLOW_CONNECTIONS false`,
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${literal(live)}`,
    `ALTER DATABASE ${identifier(live)} RENAME TO ${identifier(staged)}`,
    ...(liveOid === null
      ? []
      : [
          `ALTER DATABASE ${identifier(previous)} RENAME TO ${identifier(live)}`,
          `ALTER DATABASE ${identifier(live)} ALLOW_CONNECTIONS true`,
        ]),
  ];
  return statements.map((statement) => `${connection} -c ${shellWord(statement)}`);
}

/** Names of all databases by OID, read anew before every decision. */
async function namesByOid(control: Session, signal: AbortSignal): Promise<Map<number, string>> {
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

/** Where the two databases of a swap are now. */
interface Whereabouts {
  /** Name of the restored database, undefined when it is gone. */
  readonly restored: string | undefined;
  /** Name of what was live before, undefined when it is gone or never was. */
  readonly former: string | undefined;
  /** True when a database that is neither bears the live name. */
  readonly strangerLive: boolean;
}

function locate(swap: DatabaseSwap, names: ReadonlyMap<number, string>): Whereabouts {
  // A name no step of the swap gives away means another server, or a person at work.
  const known = (oid: number | null, expected: readonly string[]): string | undefined => {
    const name = oid === null ? undefined : names.get(oid);
    return name !== undefined && expected.includes(name) ? name : undefined;
  };
  const restored = known(swap.stagedOid, [swap.staged, swap.live]);
  const former = known(swap.liveOid, [swap.live, swap.previous]);
  const strangerLive =
    restored !== swap.live && former !== swap.live && [...names.values()].includes(swap.live);
  return { restored, former, strangerLive };
}

/**
 * Puts the restored databases in place, all in one transaction: after a crash either every database is exchanged
 * or none is. Running it again finishes what is left.
 */
export async function swapDatabases(
  options: PostgresOptions,
  details: SwapDetails,
  ctx: OperationContext,
): Promise<void> {
  const { signal } = ctx;
  await using control = await openControlSession(options, signal, namesInvolved(details));
  const names = await namesByOid(control, signal);
  const pending = details.databases.filter((swap) => locate(swap, names).restored !== swap.live);
  for (const swap of pending) requireSwappable(swap, locate(swap, names));
  const renames = pending.flatMap((swap) => [
    ...(locate(swap, names).former === swap.live ? [rename(swap.live, swap.previous)] : []),
    rename(swap.staged, swap.live),
  ]);
  const reopened = details.databases.flatMap((swap) => [
    ...(swap.liveOid === null ? [] : [allowConnections(swap.previous, true)]),
    allowConnections(swap.live, true),
  ]);
  await exchange(
    control,
    pending.map(({ live }) => live),
    [...renames, ...reopened],
    ctx,
  );
}

function requireSwappable(swap: DatabaseSwap, { restored, former, strangerLive }: Whereabouts): void {
  if (restored === undefined) {
    throw new TarsError('restore-failed', `The restored database "${swap.staged}" is not there any more`, {
      hint: 'Run the restore again.',
    });
  }
  if (strangerLive || (swap.liveOid !== null && former === undefined)) {
    throw new TarsError(
      'restore-failed',
      `Database "${swap.live}" is not the one it was when the restore began`,
      { hint: 'Somebody created, dropped or renamed it meanwhile. Run the restore again.' },
    );
  }
}

/** The way back of a journalled swap. */
export function postgresGeneration(options: PostgresOptions, record: SwapRecord): Generation {
  return {
    undo: (ctx) => undoSwap(options, parseSwapRecord(record), ctx),
    discardPrevious: (ctx) => discardPrevious(options, parseSwapRecord(record), ctx),
  };
}

async function undoSwap(
  options: PostgresOptions,
  details: SwapDetails,
  ctx: OperationContext,
): Promise<void> {
  const { signal } = ctx;
  await using control = await openControlSession(options, signal, namesInvolved(details));
  const names = await namesByOid(control, signal);
  const located = details.databases.map((swap) => ({ swap, at: locate(swap, names) }));
  for (const { swap, at } of located) requireUndoable(swap, at);
  const renames = located.flatMap(({ swap, at }) => [
    ...(at.restored === swap.live ? [rename(swap.live, swap.staged)] : []),
    ...(at.former === swap.previous ? [rename(swap.previous, swap.live)] : []),
  ]);
  const reopened = located.flatMap(({ swap, at }) =>
    at.former === undefined ? [] : [allowConnections(swap.live, true)],
  );
  const moving = located.flatMap(({ swap, at }) => [
    ...(at.restored === swap.live ? [swap.live] : []),
    ...(at.former === swap.previous ? [swap.previous] : []),
  ]);
  await exchange(control, moving, [...renames, ...reopened], ctx);
  await dropStaged(control, details, signal);
}

function requireUndoable(swap: DatabaseSwap, { former, strangerLive }: Whereabouts): void {
  if (swap.liveOid !== null && former === undefined) {
    throw new TarsError(
      'restore-failed',
      `Cannot go back: the previous database "${swap.previous}" is not there any more`,
      {
        hint: `Nothing was changed; "${swap.live}" is still the restored one. Restore another snapshot instead.`,
      },
    );
  }
  if (strangerLive) {
    throw new TarsError(
      'restore-failed',
      `Cannot go back: the name "${swap.live}" now belongs to a database this restore does not know`,
      { hint: `Rename that database, then run this again; the previous data is in "${swap.previous}".` },
    );
  }
}

/**
 * Drops restored databases that are not live, and then the roles created for them.
 * Harmless after a swap: what is live is not dropped, and its roles stay.
 */
export async function dropStaged(control: Session, details: SwapDetails, signal: AbortSignal): Promise<void> {
  const names = await namesByOid(control, signal);
  for (const swap of details.databases) {
    if (locate(swap, names).restored === swap.staged) await dropDatabase(control, swap.staged, signal);
  }
  const anyLive = details.databases.some((swap) => locate(swap, names).restored === swap.live);
  if (!anyLive) await dropRoles(control, details.createdRoles, signal);
}

/**
 * Drops databases that a staging left when it was cut off, known by their names alone. Roles it created stay: nothing
 * tells them from others any more.
 */
export async function removeStaged(
  options: PostgresOptions,
  restoreId: string,
  { signal }: OperationContext,
): Promise<void> {
  await using control = await openControlSession(options, signal);
  for (const name of (await databaseOids(control, signal)).keys()) {
    if (name.endsWith(`_tars_new_${restoreId}`)) await dropDatabase(control, name, signal);
  }
}

async function discardPrevious(
  options: PostgresOptions,
  details: SwapDetails,
  { signal }: OperationContext,
): Promise<void> {
  await using control = await openControlSession(options, signal, namesInvolved(details));
  const names = await namesByOid(control, signal);
  for (const swap of details.databases) {
    if (locate(swap, names).former === swap.previous) await dropDatabase(control, swap.previous, signal);
  }
}

/** Drops a database and whatever sessions are in it; none is no error. */
export async function dropDatabase(control: Session, name: string, signal: AbortSignal): Promise<void> {
  try {
    await control.run(allowConnections(name, false), signal);
  } catch (error) {
    if (sqlState(error) === '3D000') return;
    throw error;
  }
  await terminateSessions(control, [name], signal);
  await control.run(`DROP DATABASE IF EXISTS ${identifier(name)}`, signal);
}

const rename = (from: string, to: string): string =>
  `ALTER DATABASE ${identifier(from)} RENAME TO ${identifier(to)}`;

const allowConnections = (name: string, allow: boolean): string =>
  `ALTER DATABASE ${identifier(name)} ALLOW_CONNECTIONS ${allow}`;

const namesInvolved = ({ databases }: SwapDetails): string[] =>
  databases.flatMap(({ live, staged, previous }) => [live, staged, previous]);

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
async function exchange(
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
