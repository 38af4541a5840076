import { z } from 'zod';
import { TarsError } from '../../model/errors.ts';
import type { ArtifactSink } from '../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { findClient } from './client.ts';
import { holdRelations, readSequences, requireReadable, requireUnchanged } from './content.ts';
import { listDatabases, warnOfLeftOut } from './databases.ts';
import { captureDatabase, captureGlobals, type CaptureInputs, type MarkedDatabase } from './dump.ts';
import type { PostgresFacts } from './facts.ts';
import { globalsPath } from './names.ts';
import { addressOf, type PostgresOptions } from './options.ts';
import { readServer } from './properties.ts';
import { readMemberships, readRoles } from './roles.ts';
import { openControlSession, openSession, type Session } from './session.ts';

/** pg_partition_root() and names with a collation came with 12. */
const oldestMajor = 12;

/** Connects to every database and makes sure that the capture can succeed. */
export async function prepareCapture(
  options: PostgresOptions,
  ctx: OperationContext,
): Promise<PreparedCapture> {
  const { signal } = ctx;
  const control = await openControlSession(options, signal);
  try {
    return await prepareWith(control, options, ctx);
  } catch (error) {
    await control[Symbol.asyncDispose]();
    throw error;
  }
}

/** `control` reads what all databases share; it is marked like them. */
async function prepareWith(
  control: Session,
  options: PostgresOptions,
  ctx: OperationContext,
): Promise<PreparedCapture> {
  const { signal } = ctx;
  const server = await readServer(control, signal);
  if (server.major < oldestMajor) {
    throw new TarsError(
      'unsupported-version',
      `PostgreSQL at ${addressOf(options)} is version ${server.version}, and tars captures version ${oldestMajor} or newer`,
      { hint: 'Upgrade the server, or leave this component out with --skip.' },
    );
  }
  const rows = await listDatabases(control, options, signal);
  await warnOfLeftOut(control, options, ctx);
  const client = await findClient(options, server.major, signal);
  const databases: MarkedDatabase[] = [];
  try {
    for (const row of rows) {
      const session = await openSession(options, row.name, signal);
      databases.push({ ...row, session, snapshot: undefined, sequences: [] });
      await requireReadable(session, options.user, signal);
    }
  } catch (error) {
    await closeAll(databases);
    throw error;
  }
  return {
    pointInTime: 'cut',
    mark: (markSignal) => mark(control, databases, markSignal),
    settle: (settleCtx) => settle(options, databases, settleCtx),
    capture: (sink, captureCtx) => capture({ options, server, client, control, databases }, sink, captureCtx),
    [Symbol.asyncDispose]: async () => {
      await closeAll(databases);
      await control[Symbol.asyncDispose]();
    },
  };
}

async function closeAll(databases: readonly MarkedDatabase[]): Promise<void> {
  await Promise.all(databases.map(({ session }) => session[Symbol.asyncDispose]()));
}

/** One round trip per database, all at once. The transactions stay open: the snapshots live as long as they do. */
async function mark(
  control: Session,
  databases: readonly MarkedDatabase[],
  signal: AbortSignal,
): Promise<void> {
  const begin = 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot() AS snapshot';
  await Promise.all([
    control.run(begin, signal),
    ...databases.map(async (database) => {
      const { snapshot } = await database.session.row(z.object({ snapshot: z.string() }), begin, signal);
      database.snapshot = snapshot;
    }),
  ]);
}

async function settle(
  options: PostgresOptions,
  databases: readonly MarkedDatabase[],
  { signal }: OperationContext,
): Promise<void> {
  await Promise.all(
    databases.map(async (database) => {
      await holdRelations(database.session, signal);
      database.sequences = await readSequences(database.session, signal);
    }),
  );
  // One after the other: each needs a connection more, and there may be few left.
  for (const { name, session } of databases) {
    await using present = await openSession(options, name, signal);
    await requireUnchanged(session, present, signal);
  }
}

async function capture(
  inputs: CaptureInputs,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<CaptureReport> {
  const { options, server, client, control, databases } = inputs;
  const passwords = await captureGlobals(inputs, sink, ctx);
  const facts: PostgresFacts = {
    serverMajor: server.major,
    clientMajor: client.major,
    passwords,
    globalsArtifact: globalsPath(options.name),
    roles: await readRoles(control, ctx.signal),
    memberships: await readMemberships(control, ctx.signal),
    databases: [],
  };
  for (const database of databases) {
    facts.databases.push(await captureDatabase(inputs, database, sink, ctx));
    // Ends the transaction, and with it the hold on dead rows and locks.
    await database.session[Symbol.asyncDispose]();
  }
  return { serverVersion: server.version, method: 'pg_dump', writesBlockedMs: 0, facts };
}
