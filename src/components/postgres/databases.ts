import { z } from 'zod';
import { TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { databaseFilter } from './content.ts';
import { isAside } from './names.ts';
import { addressOf, type PostgresOptions } from './options.ts';
import type { Session } from './session.ts';

const databaseRowSchema = z.object({ name: z.string(), sizeBytes: z.coerce.number() });

/** A database as the server lists it. */
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
export async function warnOfLeftOut(
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
