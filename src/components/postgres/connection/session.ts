import pg from 'pg';
import { z } from 'zod';
import { connectionFailure } from '../../../model/connection-failure.ts';
import { throwIfAborted } from '../../../model/abort.ts';
import { messageOf, ServiceUnavailableError, TarsError } from '../../../model/errors.ts';
import type { ServerClaim } from '../../../ports/server-proof.ts';
import { addressOf, startupOptions, type PostgresOptions } from './options.ts';
import { passwordFromFile } from './password-file.ts';
import { tlsAttempts, type TlsAttempts } from './tls.ts';

const connectTimeoutMs = 10_000;

/**
 * What a session must not inherit from server, database or role beside {@link startupOptions}: settings that change
 * how values read as text (the content hashes depend on it) or that would end a long transaction. Names a server
 * does not know are passed over.
 */
const pinnedSettings: Readonly<Record<string, string>> = {
  TimeZone: 'UTC',
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '3',
  lc_monetary: 'C',
  quote_all_identifiers: 'off',
  // Rows hidden by a policy must be an error, not a smaller count.
  row_security: 'off',
  idle_session_timeout: '0',
  transaction_timeout: '0',
  default_transaction_isolation: 'read committed',
  synchronous_commit: 'on',
  // A query whose client has gone ends within this time.
  client_connection_check_interval: '2s',
  jit: 'off',
};

const pinStatement = `SELECT set_config(s.name, v.value, false)
  FROM (VALUES ${Object.entries(pinnedSettings)
    .map(([name, value]) => `(${pg.escapeLiteral(name)}, ${pg.escapeLiteral(value)})`)
    .join(', ')}) v(name, value)
  JOIN pg_settings s ON lower(s.name) = lower(v.name)`;

/** One connection to one database. */
export interface Session extends AsyncDisposable {
  readonly database: string;
  /** The rows of the last statement in `sql`. Aborting `signal` ends the connection. */
  rows<T>(schema: z.ZodType<T>, sql: string, signal: AbortSignal, values?: readonly unknown[]): Promise<T[]>;
  /** Exactly one row. */
  row<T>(schema: z.ZodType<T>, sql: string, signal: AbortSignal, values?: readonly unknown[]): Promise<T>;
  /** For statements without a result. */
  run(sql: string, signal: AbortSignal): Promise<void>;
}

/**
 * Connects, with everything pinned that could change what is read.
 * @throws ServiceUnavailableError when the server does not answer
 * @throws TarsError `access-denied`, `configuration` (no such database)
 */
export async function openSession(
  options: PostgresOptions,
  database: string,
  signal: AbortSignal,
): Promise<Session> {
  const client = await connect(options, database, signal);
  const query = async (
    sql: string,
    querySignal: AbortSignal,
    values?: readonly unknown[],
  ): Promise<unknown[]> =>
    abortable(client, options, database, querySignal, async () => {
      const result: pg.QueryResult | pg.QueryResult[] = await client.query(sql, values?.slice());
      return (Array.isArray(result) ? (result.at(-1) as pg.QueryResult) : result).rows as unknown[];
    });
  try {
    await options.proof?.require(await claimOf(query, signal), signal);
    await query(pinStatement, signal);
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
  const rows: Session['rows'] = async (schema, sql, querySignal, values) =>
    (await query(sql, querySignal, values)).map((row) => schema.parse(row));
  return {
    database,
    rows,
    row: async (schema, sql, querySignal, values) => {
      const [first] = await rows(schema, sql, querySignal, values);
      if (first === undefined) throw new TarsError('internal', `PostgreSQL returned no row for: ${sql}`);
      return first;
    },
    run: async (sql, querySignal) => {
      await query(sql, querySignal);
    },
    [Symbol.asyncDispose]: () => client.end().catch(() => undefined),
  };
}

/** Servers known to refuse encryption where it is only preferred: half of the connections are saved. */
const plainServers = new WeakSet<PostgresOptions>();

/** A connected client, encrypted as the settings ask for. */
async function connect(options: PostgresOptions, database: string, signal: AbortSignal): Promise<pg.Client> {
  const all = await tlsAttempts(options.tls, process.env);
  const attempts = plainServers.has(options) ? all.filter((ssl) => ssl === false) : all;
  let firstError: unknown;
  for (const ssl of attempts) {
    const client = newClient(options, database, ssl);
    try {
      await abortable(client, options, database, signal, () => client.connect());
      if (firstError !== undefined && ssl === false) plainServers.add(options);
      return client;
    } catch (error) {
      await client.end().catch(() => undefined);
      firstError ??= error;
      if (!otherEncryptionWanted(error)) throw error;
    }
  }
  throw firstError;
}

/** The server has no encryption, or its pg_hba.conf has no line for a connection like this one. */
function otherEncryptionWanted(error: unknown): boolean {
  return sqlState(error) === '28000' || /does not support SSL/.test(messageOf(error));
}

function newClient(options: PostgresOptions, database: string, ssl: TlsAttempts[number]): pg.Client {
  const client = new pg.Client({
    host: options.host,
    port: options.port,
    user: options.user,
    password: options.password ?? process.env['PGPASSWORD'] ?? (() => passwordFromFile(options, database)),
    database,
    ssl,
    connectionTimeoutMillis: connectTimeoutMs,
    application_name: 'tars',
    options: startupOptions,
    keepAlive: true,
  });
  // Without a listener, a server that goes away between two queries would end this process.
  client.on('error', () => undefined);
  return client;
}
const claimSchema = z.tuple([
  z.object({
    address: z.string().nullable(),
    dataDirectory: z.string().nullable(),
    mayReadControl: z.boolean(),
  }),
]);

/** What the server says of itself, as far as this user may ask. */
async function claimOf(
  query: (sql: string, signal: AbortSignal) => Promise<unknown[]>,
  signal: AbortSignal,
): Promise<ServerClaim> {
  const [{ address, dataDirectory, mayReadControl }] = claimSchema.parse(await query(claimQuery, signal));
  const [control] = mayReadControl ? await query(controlQuery, signal) : [];
  return {
    ...{ address: address ?? undefined, dataDirectory: dataDirectory ?? undefined },
    systemIdentifier: control === undefined ? undefined : z.object({ id: z.string() }).parse(control).id,
  };
}

const claimQuery = `SELECT host(inet_server_addr()) AS address,
  CASE WHEN pg_has_role('pg_read_all_settings', 'MEMBER') THEN current_setting('data_directory') END AS "dataDirectory",
  has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS "mayReadControl"`;
const controlQuery = 'SELECT system_identifier::text AS id FROM pg_control_system()';

async function abortable<T>(
  client: pg.Client,
  options: PostgresOptions,
  database: string,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  throwIfAborted(signal);
  const onAbort = (): void => {
    client.end().catch(() => undefined);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await work();
  } catch (error) {
    throwIfAborted(signal, error);
    throw describeServerError(error, options, database);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** The SQLSTATE of an error of the server, also when it is a described one's cause. */
export function sqlState(error: unknown): string | undefined {
  if (error instanceof pg.DatabaseError) return error.code;
  return error instanceof TarsError ? sqlState(error.cause) : undefined;
}

// SQLSTATE classes: PostgreSQL manual, appendix A.
// Not class 08: as the server's answer it is about another server, one of its foreign tables or subscriptions.
const unavailableStates = new Set(['57P01', '57P02', '57P03', '57P05', '53300']);
const unavailablePattern =
  /^(ECONN|EHOST|ENET|ENOTFOUND|EAI_|ETIMEDOUT|EPIPE)|timeout expired|Connection terminated|not queryable|Client was closed/;

/** Codes of Node and OpenSSL. */
const certificateErrors = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ERR_TLS/;

/** Says what went wrong with which server, and what to do. Statements and parameters are never repeated. */
function describeServerError(error: unknown, options: PostgresOptions, database: string): TarsError {
  if (error instanceof TarsError) return error;
  const where = `PostgreSQL at ${addressOf(options)}`;
  const detail = messageOf(error);
  const state = sqlState(error);
  if (state === '28P01' || state === '28000' || (state === undefined && /SASL|password/i.test(detail))) {
    return accessDenied(where, detail, options, error);
  }
  if (state === '3D000') {
    return new TarsError('configuration', `${where} has no database "${database}"`, {
      hint: 'Correct the list of databases in tars.yaml, or create the database.',
      cause: error,
    });
  }
  const errno = (error as { code?: unknown } | null)?.code;
  const systemCode = state === undefined && typeof errno === 'string' ? errno : '';
  if (certificateErrors.test(systemCode || detail)) {
    return new TarsError('access-denied', `${where} presented a certificate that is not trusted: ${detail}`, {
      hint: 'Set sslrootcert in tars.yaml to the certificate of the authority that signed it. With sslmode verify-full, the certificate must also contain the host name.',
      cause: error,
    });
  }
  const noAnswer = state === undefined && unavailablePattern.test(systemCode || detail);
  if (unavailableStates.has(state ?? '') || noAnswer) {
    const reason = state === undefined ? connectionFailure(error) : detail;
    return new ServiceUnavailableError(`${where} does not answer: ${reason}`, {
      hint: 'Start the server, or correct host and port in tars.yaml.',
      cause: error,
    });
  }
  if (state === '08P01' && detail.includes('startup parameter')) {
    return new TarsError('configuration', `${where} is a connection pooler (PgBouncer): ${detail}`, {
      hint: 'A snapshot needs its own sessions. Set host and port in tars.yaml to the PostgreSQL server itself.',
      cause: error,
    });
  }
  if (state === '42501') {
    return new TarsError('access-denied', `${where}, database "${database}": ${detail}`, {
      hint: `Give the user ${options.user} the right to read it (GRANT pg_read_all_data), or use a superuser.`,
      cause: error,
    });
  }
  return new TarsError('internal', `${where}, database "${database}": ${detail}`, { cause: error });
}

function accessDenied(where: string, detail: string, options: PostgresOptions, cause: unknown): TarsError {
  if (sqlState(cause) === '28000' && detail.includes('pg_hba.conf')) {
    return new TarsError('access-denied', `${where} refused user ${options.user}: ${detail}`, {
      hint: 'Allow this connection in pg_hba.conf, or set sslmode in tars.yaml to the mode that this file requires.',
      cause,
    });
  }
  const what =
    options.password === undefined
      ? `${where} requires a password for user ${options.user}, and none is configured`
      : `${where} refused user ${options.user}: ${detail}`;
  return new TarsError('access-denied', what, {
    hint: "Correct the component's user and password in tars.yaml.",
    cause,
  });
}

/**
 * A session for statements about databases and roles. It lives in a database that is none of `avoid`, since a
 * database with sessions cannot be renamed.
 */
export async function openControlSession(
  options: PostgresOptions,
  signal: AbortSignal,
  avoid: readonly string[] = [],
): Promise<Session> {
  const candidates = [...new Set(['postgres', ...(options.databases ?? []), 'template1'])].filter(
    (name) => !avoid.includes(name),
  );
  let firstError: unknown;
  for (const candidate of candidates) {
    try {
      return await openSession(options, candidate, signal);
    } catch (error) {
      firstError ??= error;
      // No such database; no right to connect; connections not allowed.
      if (!['3D000', '42501', '55000'].includes(sqlState(error) ?? '')) throw error;
    }
  }
  throw firstError;
}

/** Whether the session's user may do everything. */
export async function isSuperuser(session: Session, signal: AbortSignal): Promise<boolean> {
  const { superuser } = await session.row(
    z.object({ superuser: z.boolean() }),
    'SELECT rolsuper AS superuser FROM pg_roles WHERE rolname = current_user',
    signal,
  );
  return superuser;
}
