import { PreviousDataGoneError, TarsError } from '../../model/errors.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';
import type { Generation } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import {
  allowConnections,
  databaseOids,
  dropDatabase,
  exchange,
  namesByOid,
  rename,
} from './database-exchange.ts';
import type { PostgresOptions } from './connection/options.ts';
import { dropRoles } from './roles.ts';
import { openControlSession, type Session } from './connection/session.ts';
import { parseSwapRecord, type DatabaseSwap, type SwapDetails } from './swap-record.ts';

/** Where the two databases of a swap are now. */
interface Whereabouts {
  /** Name of the restored database, undefined when it is gone. */
  readonly restored: string | undefined;
  /** Name of the database that was live before; undefined when it is gone or never existed. */
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
  // Workers of extensions, monitoring and poolers visit every database of a server, the staged one as well.
  const moving = pending.flatMap(({ live, staged }) => [live, staged]);
  await exchange(control, moving, [...renames, ...reopened], ctx);
}

function requireSwappable(swap: DatabaseSwap, { restored, former, strangerLive }: Whereabouts): void {
  if (restored === undefined) {
    throw new TarsError('restore-failed', `The restored database "${swap.staged}" no longer exists`, {
      hint: 'Run the restore again.',
    });
  }
  if (strangerLive || (swap.liveOid !== null && former === undefined)) {
    throw new TarsError(
      'restore-failed',
      `Database "${swap.live}" has been replaced since the restore began`,
      { hint: 'Someone has created, dropped or renamed it. Run the restore again.' },
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
    throw new PreviousDataGoneError(
      `Cannot undo the restore: the previous database "${swap.previous}" no longer exists`,
      {
        hint: `Nothing was changed; "${swap.live}" is still the restored one. Restore another snapshot instead.`,
      },
    );
  }
  if (strangerLive) {
    throw new TarsError(
      'restore-failed',
      `Cannot undo the restore: the name "${swap.live}" now belongs to a database that it did not create`,
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
  const staged = details.databases.filter((swap) => locate(swap, names).restored === swap.staged);
  await dropAll(
    control,
    staged.map((swap) => swap.staged),
    signal,
  );
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
  const names = [...(await databaseOids(control, signal)).keys()];
  await dropAll(
    control,
    names.filter((name) => name.endsWith(`_tars_new_${restoreId}`)),
    signal,
  );
}

/** One that cannot be dropped keeps no other from being dropped. */
async function dropAll(control: Session, names: readonly string[], signal: AbortSignal): Promise<void> {
  const failures: unknown[] = [];
  for (const name of names) {
    await dropDatabase(control, name, signal).catch((error: unknown) => failures.push(error));
  }
  if (failures.length > 0) throw failures[0];
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

const namesInvolved = ({ databases }: SwapDetails): string[] =>
  databases.flatMap(({ live, staged, previous }) => [live, staged, previous]);
