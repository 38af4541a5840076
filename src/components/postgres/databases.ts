import { z } from 'zod';
import { TarsError } from '../../model/errors.ts';
import { databaseFilter } from './compare/content.ts';
import { isAside } from './names.ts';
import { addressOf, type PostgresOptions } from './connection/options.ts';
import { ownRelations } from './compare/schema-definitions.ts';
import { openSession, sqlState, type Session } from './connection/session.ts';

const databaseRowSchema = z.object({ name: z.string(), sizeBytes: z.coerce.number() });

/** A database as the server lists it. */
export type DatabaseRow = z.infer<typeof databaseRowSchema>;

/** What `datconnlimit` is while a database is dropped, and stays when that is cut off (DATCONNLIMIT_INVALID_DB). */
export const invalidDatabase = -2;

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
     FROM pg_database d WHERE d.datconnlimit <> ${invalidDatabase} AND ${databaseFilter(options.databases)} ORDER BY d.datname COLLATE "C"`,
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

/** Databases that no one excluded but that a capture leaves out, each with the reason as a sentence. */
export async function leftOut(
  control: Session,
  options: PostgresOptions,
  signal: AbortSignal,
): Promise<string[]> {
  if (options.databases !== undefined) return [];
  const rows = await control.rows(
    z.object({ name: z.string(), template: z.boolean(), invalid: z.boolean() }),
    `SELECT datname AS name, datistemplate AS template, datconnlimit = ${invalidDatabase} AS invalid FROM pg_database
     WHERE (datistemplate OR NOT datallowconn OR datconnlimit = ${invalidDatabase})
       AND datname NOT IN ('template0', 'template1')
     ORDER BY datname COLLATE "C"`,
    signal,
  );
  const reason = ({
    template,
    invalid,
  }: {
    readonly template: boolean;
    readonly invalid: boolean;
  }): string => {
    if (invalid) return 'an interrupted DROP DATABASE left it unusable (DROP DATABASE removes the rest)';
    return template
      ? 'it is a template'
      : 'it accepts no connections (ALTER DATABASE … ALLOW_CONNECTIONS true)';
  };
  return [
    ...rows
      .filter(({ name }) => !isAside(name))
      .map((row) => `Database "${row.name}" is not captured: ${reason(row)}`),
    ...(await ownTemplate(options, signal)),
  ];
}

/** What new databases are made from is a part of the server's set-up, unless somebody has put something into it. */
async function ownTemplate(options: PostgresOptions, signal: AbortSignal): Promise<string[]> {
  try {
    await using session = await openSession(options, 'template1', signal);
    const { own } = await session.row(
      z.object({ own: z.array(z.string()) }),
      `SELECT array(SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql'
         UNION ALL SELECT n.nspname || '.' || c.relname ${ownRelations} AND c.relkind <> 'i' ORDER BY 1 LIMIT 5) AS own`,
      signal,
    );
    if (own.length === 0) return [];
    return [`Database "template1" is not captured: it is a template, and has ${own.join(', ')}`];
  } catch (error) {
    // It is there to be copied, and need not let anybody in.
    if (sqlState(error) === undefined) throw error;
    return [];
  }
}
