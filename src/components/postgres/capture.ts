import { z } from 'zod';
import { InterruptedError, TarsError } from '../../model/errors.ts';
import type { ArtifactAttributes, ArtifactSink, Bytes } from '../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { findClient, type Client } from './client.ts';
import {
  databaseFilter,
  holdRelations,
  lockTimeoutMs,
  readContent,
  readSequences,
  requireReadable,
  requireUnchanged,
} from './content.ts';
import type { DatabaseFacts, PostgresFacts, SequenceFacts } from './facts.ts';
import { dumpPath, globalsPath, isAside } from './names.ts';
import { addressOf, type PostgresOptions } from './options.ts';
import { conninfo, programOutput } from './programs.ts';
import { readProperties, readServer, type ServerIdentity } from './properties.ts';
import { mayReadPasswords, readMemberships, readRoles } from './roles.ts';
import { openControlSession, openSession, type Session } from './session.ts';

/** pg_partition_root() and names with a collation came with 12. */
const oldestMajor = 12;

const databaseRowSchema = z.object({ name: z.string(), sizeBytes: z.coerce.number() });
export type DatabaseRow = z.infer<typeof databaseRowSchema>;

/** The databases a capture covers. What restores staged or moved aside is left out. */
export async function listDatabases(
  control: Session,
  options: PostgresOptions,
  signal: AbortSignal,
): Promise<DatabaseRow[]> {
  const rows = await control.rows(
    databaseRowSchema,
    `SELECT d.datname AS name,
       CASE WHEN has_database_privilege(d.oid, 'CONNECT') THEN pg_database_size(d.oid) ELSE 0 END::text AS "sizeBytes"
     FROM pg_database d WHERE ${databaseFilter(options.databases)} ORDER BY d.datname COLLATE "C"`,
    signal,
  );
  const missing = options.databases?.find((wanted) => !rows.some(({ name }) => name === wanted));
  if (missing !== undefined) {
    throw new TarsError('configuration', `PostgreSQL at ${addressOf(options)} has no database "${missing}"`, {
      hint: 'Correct the list of databases in tars.yaml, or create the database.',
    });
  }
  return options.databases === undefined ? rows.filter(({ name }) => !isAside(name)) : rows;
}

/** Databases nobody excluded and a capture leaves out all the same are named. */
async function warnOfLeftOut(
  control: Session,
  options: PostgresOptions,
  ctx: OperationContext,
): Promise<void> {
  if (options.databases !== undefined) return;
  const leftOut = await control.rows(
    z.object({ name: z.string(), template: z.boolean() }),
    `SELECT datname AS name, datistemplate AS template FROM pg_database
     WHERE (datistemplate OR NOT datallowconn) AND datname NOT IN ('template0', 'template1')
     ORDER BY datname COLLATE "C"`,
    ctx.signal,
  );
  for (const { name, template } of leftOut.filter((database) => !isAside(database.name))) {
    const why = template
      ? 'it is a template'
      : 'it accepts no connections (ALTER DATABASE … ALLOW_CONNECTIONS true)';
    ctx.log.warn(`Database "${name}" is not captured: ${why}`);
  }
}

/** One database with the transaction that fixes its state. */
interface MarkedDatabase {
  readonly name: string;
  readonly sizeBytes: number;
  readonly session: Session;
  snapshot: string | undefined;
  sequences: readonly SequenceFacts[];
}

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

interface CaptureInputs {
  readonly options: PostgresOptions;
  readonly server: ServerIdentity;
  readonly client: Client;
  readonly control: Session;
  readonly databases: readonly MarkedDatabase[];
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

/**
 * Roles and tablespaces as SQL, for people and for the password hashes. Hashes are as secret as passwords: they
 * go only where everything is encrypted.
 */
async function captureGlobals(
  { options, client, control }: CaptureInputs,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<PostgresFacts['passwords']> {
  const readable = await mayReadPasswords(control, ctx.signal);
  if (sink.encrypted && !readable) {
    ctx.log.warn(
      `User ${options.user} may not read password hashes; the roles in the snapshot have no passwords`,
    );
  }
  const included = sink.encrypted && readable;
  const args = [
    '--globals-only',
    '--no-password',
    `--lock-wait-timeout=${lockTimeoutMs}`,
    `--dbname=${conninfo(client.options, control.database)}`,
    ...(included ? [] : ['--no-role-passwords']),
  ];
  const body = programOutput({ path: client.pgDumpall, args, options: client.options }, ctx.signal);
  await sink.write(globalsPath(options.name), body, {
    attributes: ownAttributes(ctx),
    chunking: 'small',
    signal: ctx.signal,
  });
  if (included) return 'included';
  return sink.encrypted ? 'not-readable' : 'withheld';
}

/**
 * Dumps one database into the sink while reading the facts of the same snapshot. The first failure of either
 * stops the other.
 */
async function captureDatabase(
  { options, client, control }: CaptureInputs,
  database: MarkedDatabase,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<DatabaseFacts> {
  const { name, session, sizeBytes, snapshot, sequences } = database;
  if (snapshot === undefined) {
    throw new TarsError('internal', `Database "${name}" was to be captured without having been marked`);
  }
  const failure = new AbortController();
  const signal = AbortSignal.any([ctx.signal, failure.signal]);
  const artifact = dumpPath(options.name, name);
  const dump = async (): Promise<void> => {
    const args = dumpArguments(client.options, name, snapshot);
    const body = programOutput({ path: client.pgDump, args, options: client.options }, signal);
    const attributes = ownAttributes(ctx);
    await sink.write(artifact, counted(body, `${options.name}: ${name}`, sizeBytes, ctx), {
      attributes,
      chunking: 'stream',
      signal,
    });
  };
  const facts = async (): Promise<DatabaseFacts> => ({
    name,
    artifact,
    sizeBytes,
    properties: await readProperties(control, name, signal),
    content: await readContent(session, sequences, signal),
  });
  let firstError: unknown;
  const stopOther = (error: unknown): never => {
    firstError ??= error;
    failure.abort();
    throw error;
  };
  const [dumped, read] = await Promise.allSettled([dump().catch(stopOther), facts().catch(stopOther)]);
  if (dumped.status === 'fulfilled' && read.status === 'fulfilled') return read.value;
  // Whichever part notices the interruption first, with whatever error.
  if (ctx.signal.aborted) throw new InterruptedError('Interrupted', { cause: firstError });
  throw describeDumpError(firstError, name);
}

/**
 * Custom format without its own compression: the repository deduplicates and compresses better. The archive is
 * whole when the program ended with 0 and its output was read to the end, which {@link programOutput} demands;
 * its later integrity is the artifact's SHA-256.
 */
function dumpArguments(options: PostgresOptions, database: string, snapshot: string): string[] {
  return [
    '--format=custom',
    '--compress=0',
    `--snapshot=${snapshot}`,
    `--lock-wait-timeout=${lockTimeoutMs}`,
    '--no-password',
    `--dbname=${conninfo(options, database)}`,
  ];
}

function describeDumpError(error: unknown, database: string): unknown {
  if (!(error instanceof TarsError) || error.code !== 'subprocess') return error;
  const hint = /permission denied|must be superuser|row-level security/i.test(error.message)
    ? 'Give the configured user the right to read everything (GRANT pg_read_all_data), or use a superuser.'
    : 'Look at the message of pg_dump above and at the log of the server, then run the backup again.';
  return new TarsError('capture-failed', `Cannot dump database "${database}": ${error.message}`, {
    hint,
    cause: error,
  });
}

/** Dumps have no owner on disk; they are readable by whoever runs the restore, and nobody else. */
function ownAttributes(ctx: OperationContext): ArtifactAttributes {
  return {
    mode: 0o600,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    mtimeNs: BigInt(ctx.clock.now().getTime()) * 1_000_000n,
  };
}

async function* counted(body: Bytes, task: string, expectedBytes: number, ctx: OperationContext): Bytes {
  const progress = ctx.progress.start(task, expectedBytes);
  let outcome: 'ok' | 'failed' = 'failed';
  try {
    for await (const chunk of body) {
      progress.advance(chunk.byteLength);
      yield chunk;
    }
    outcome = 'ok';
  } finally {
    progress.finish(outcome);
  }
}
