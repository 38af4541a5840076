import { z } from 'zod';
import { InterruptedError, TarsError, toTarsError } from '../../model/errors.ts';
import type { ArtifactSink } from '../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { findClient } from './connection/client.ts';
import {
  holdRelations,
  readLockBudget,
  readPart,
  readSequences,
  requireReadable,
  requireUnchanged,
  type LockBudget,
} from './compare/content.ts';
import { leftOut, listDatabases, type DatabaseRow } from './databases.ts';
import { captureDatabase, captureGlobals, type CaptureInputs, type MarkedDatabase } from './dump.ts';
import type { DatabaseFacts, PostgresFacts } from './facts.ts';
import { globalsPath } from './names.ts';
import { addressOf, type PostgresOptions } from './connection/options.ts';
import { readServer } from './compare/properties.ts';
import { readCommonSettings, readMemberships, readParameterGrants, readRoles } from './roles.ts';
import { openControlSession, openSession, sqlState, type Session } from './connection/session.ts';
import {
  captureServerFiles,
  readServerFiles,
  unreadFiles,
  type ServerFiles,
} from './connection/server-files.ts';

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
  for (const sentence of await leftOut(control, options, signal)) ctx.log.warn(sentence);
  const client = await findClient(options, server.major, signal);
  const budget = await readLockBudget(control, signal);
  const files = await readServerFiles(control, signal);
  const unread = unreadFiles(files);
  if (unread !== undefined) ctx.log.info(unread);
  const capture = new PostgresCapture({ options, server, client, control }, rows, budget, files);
  try {
    await capture.connect(ctx);
  } catch (error) {
    await capture.close();
    throw error;
  }
  return capture;
}

/** Databases share the server and nothing else: what fails in one is its own failure. */
class PostgresCapture implements PreparedCapture {
  readonly #inputs: CaptureInputs;
  readonly #rows: readonly DatabaseRow[];
  readonly #budget: LockBudget;
  readonly #files: ServerFiles;
  /** With a connection of their own from before the cut. */
  readonly #atCut = new Map<string, MarkedDatabase>();
  readonly #failed = new Map<string, TarsError>();
  /** Without one: each of them has a moment of its own. */
  readonly #late: Set<string>;

  constructor(inputs: CaptureInputs, rows: readonly DatabaseRow[], budget: LockBudget, files: ServerFiles) {
    this.#files = files;
    this.#inputs = inputs;
    this.#rows = rows;
    this.#budget = budget;
    this.#late = new Set(rows.map(({ name }) => name));
  }

  get pointInTime(): 'cut' | 'own' {
    return [...this.#late].some((name) => !this.#failed.has(name)) ? 'own' : 'cut';
  }

  async connect(ctx: OperationContext): Promise<void> {
    const spare = await spareConnections(this.#inputs.control, ctx.signal);
    // The largest are the most likely to be written to while others are captured.
    const largest = [...this.#rows].sort((a, b) => b.sizeBytes - a.sizeBytes).slice(0, Math.max(1, spare));
    for (const row of largest) {
      const opened = await this.#attempt(row.name, ctx, () => this.#open(row, ctx));
      if (opened === 'no-connection') break;
      if (opened === undefined) continue;
      this.#atCut.set(row.name, opened);
      this.#late.delete(row.name);
    }
    this.#requireAny();
    const late = [...this.#late].filter((name) => !this.#failed.has(name));
    if (late.length === 0) return;
    ctx.log.warn(
      `The server has too few free connections (max_connections) to capture all databases at one moment. These are captured at separate moments: ${late.join(', ')}`,
    );
  }

  /** A capture of some databases is worth having; one of none is not. */
  #requireAny(): void {
    if (this.#failed.size === 0 || this.#failed.size < this.#rows.length) return;
    throw [...this.#failed.values()][0] ?? new TarsError('internal', 'There is no database');
  }

  /** Undefined when it failed, which is kept with the database's name. */
  async #attempt<T>(
    database: string,
    { signal, log }: OperationContext,
    work: () => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (signal.aborted || error instanceof InterruptedError) throw error;
      const failure = toTarsError(error, `Cannot capture database "${database}"`);
      this.#failed.set(database, failure);
      const session = this.#atCut.get(database)?.session;
      this.#atCut.delete(database);
      await session?.[Symbol.asyncDispose]();
      log.warn(`Database "${database}" is not captured: ${failure.message}`);
      return undefined;
    }
  }

  async #open(row: DatabaseRow, { signal }: OperationContext): Promise<MarkedDatabase | 'no-connection'> {
    const { options } = this.#inputs;
    let session: Session;
    try {
      session = await openSession(options, row.name, signal);
    } catch (error) {
      // too_many_connections: of the server, the database or the role. One alone is needed later in any case.
      if (sqlState(error) === '53300' && this.#atCut.size > 0) return 'no-connection';
      throw error;
    }
    try {
      await requireReadable(session, options.user, signal);
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
    return { ...row, session, snapshot: undefined, sequences: [], unread: [], held: false };
  }

  /** One round trip per database, all at once. The transactions stay open: the snapshots live as long as they do. */
  async mark(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#inputs.control.run(begin, signal),
      ...[...this.#atCut.values()].map((database) => markDatabase(database, signal)),
    ]);
  }

  async settle(ctx: OperationContext): Promise<void> {
    await Promise.all(
      [...this.#atCut.values()].map((database) =>
        this.#attempt(database.name, ctx, () => settleDatabase(database, this.#budget, ctx)),
      ),
    );
    // One after the other: each needs a connection more, and there may be few left.
    for (const { name, session } of [...this.#atCut.values()]) {
      await this.#attempt(name, ctx, () => this.#requireUnchanged(session, ctx));
    }
    this.#requireAny();
  }

  async #requireUnchanged(session: Session, { signal }: OperationContext): Promise<void> {
    await using present = await openSession(this.#inputs.options, session.database, signal);
    await requireUnchanged(session, present, signal);
  }

  async capture(sink: ArtifactSink, ctx: OperationContext): Promise<CaptureReport> {
    const { options, server, client, control } = this.#inputs;
    const passwords = await captureGlobals(this.#inputs, sink, ctx);
    const facts: PostgresFacts = {
      serverMajor: server.major,
      clientMajor: client.major,
      passwords,
      globalsArtifact: globalsPath(options.name),
      roles: await readRoles(control, ctx.signal),
      memberships: await readMemberships(control, ctx.signal),
      parameterGrants: await readParameterGrants(control, server.major, ctx.signal),
      commonSettings: await readCommonSettings(control, ctx.signal),
      ...(await captureServerFiles(this.#files, options.name, sink, ctx)),
      databases: [],
    };
    for (const row of this.#rows) {
      if (this.#failed.has(row.name)) continue;
      const captured = await this.#attempt(row.name, ctx, () => this.#captureOne(row, sink, ctx));
      if (captured !== undefined) facts.databases.push(captured);
    }
    this.#requireAny();
    return {
      ...{ serverVersion: server.version, method: 'pg_dump', writesBlockedMs: 0, facts },
      ...this.#incomplete(),
    };
  }

  async #captureOne(row: DatabaseRow, sink: ArtifactSink, ctx: OperationContext): Promise<DatabaseFacts> {
    const database = this.#atCut.get(row.name) ?? (await this.#markLate(row, ctx));
    const { session } = database;
    try {
      const facts = await captureDatabase(this.#inputs, database, sink, ctx);
      if (!database.held) await this.#requireUnchanged(session, ctx);
      await warnOfUndumped(session, ctx);
      for (const { what, reason } of facts.content.unread ?? []) {
        ctx.log.warn(`Database "${row.name}" is dumped, but a restore cannot verify ${what}: ${reason}`);
      }
      return facts;
    } finally {
      // Ends the transaction, and with it the hold on dead rows and locks.
      this.#atCut.delete(row.name);
      await session[Symbol.asyncDispose]();
    }
  }

  async #markLate(row: DatabaseRow, ctx: OperationContext): Promise<MarkedDatabase> {
    const database = await this.#open(row, ctx);
    if (database === 'no-connection') throw new TarsError('internal', `No connection for "${row.name}"`);
    try {
      await markDatabase(database, ctx.signal);
      await settleDatabase(database, this.#budget, ctx);
      return database;
    } catch (error) {
      await database.session[Symbol.asyncDispose]();
      throw error;
    }
  }

  #incomplete(): Pick<CaptureReport, 'incomplete'> {
    const named = [...this.#failed].map(([name, { message }]) => ({
      path: `database "${name}"`,
      reason: message,
    }));
    return named.length === 0 ? {} : { incomplete: { count: named.length, named } };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#atCut.values()].map(({ session }) => session[Symbol.asyncDispose]()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await this.#inputs.control[Symbol.asyncDispose]();
  }
}

const begin = 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot() AS snapshot';

async function markDatabase(database: MarkedDatabase, signal: AbortSignal): Promise<void> {
  const { snapshot } = await database.session.row(z.object({ snapshot: z.string() }), begin, signal);
  database.snapshot = snapshot;
}

async function settleDatabase(
  database: MarkedDatabase,
  budget: LockBudget,
  { signal }: OperationContext,
): Promise<void> {
  const { session, unread } = database;
  database.held = await holdRelations(session, budget, signal);
  const part = { what: 'the sequences', instead: [], unread };
  database.sequences = await readPart(session, part, () => readSequences(session, signal), signal);
}

/** What an extension keeps in its own tables, and does not declare as configuration, is in no dump. */
async function warnOfUndumped(session: Session, { signal, log }: OperationContext): Promise<void> {
  const query = `SELECT e.extname AS extension, string_agg(c.oid::regclass::text, ', ' ORDER BY c.relname) AS tables
    FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
      AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
    JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0
    WHERE c.oid <> ALL (coalesce(e.extconfig, '{}')) GROUP BY 1 ORDER BY 1`;
  const row = z.object({ extension: z.string(), tables: z.string() });
  const part = { what: 'the tables of extensions', instead: [], unread: [] };
  for (const found of await readPart(session, part, () => session.rows(row, query, signal), signal)) {
    log.warn(
      `Database "${session.database}": extension ${found.extension} keeps rows in ${found.tables} that pg_dump leaves out`,
    );
  }
}

/** How many connections a capture may keep until its end: half of those that are free. */
async function spareConnections(session: Session, signal: AbortSignal): Promise<number> {
  const { free } = await session.row(
    z.object({ free: z.coerce.number() }),
    `SELECT (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'))::text AS free`,
    signal,
  );
  return Math.floor(free / 2);
}
