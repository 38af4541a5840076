import { z } from 'zod';
import { databaseSettingSchema, grantSchema, propertiesSchema, type DatabaseProperties } from '../facts.ts';
import { identifier, literal } from '../names.ts';
import type { Session } from '../connection/session.ts';

/** A server as its own catalog describes it. */
export interface ServerIdentity {
  readonly major: number;
  /** For people, such as `15.14`. */
  readonly version: string;
}

/** Asks the server for its version. */
export async function readServer(session: Session, signal: AbortSignal): Promise<ServerIdentity> {
  const { number, version } = await session.row(
    z.object({ number: z.coerce.number(), version: z.string() }),
    `SELECT current_setting('server_version_num') AS number,
       split_part(current_setting('server_version'), ' ', 1) AS version`,
    signal,
  );
  return { major: Math.floor(number / 10_000), version };
}

/** Grants and settings are rows of their own. */
const rowSchema = propertiesSchema.omit({ grants: true, settings: true });

/**
 * What `CREATE DATABASE` and the statements after it need; pg_dump without `-C` leaves all of it out.
 * @param session the session that lists databases: names in shared catalogs are bytes without an encoding, and
 *   read differently from within a database of another encoding
 */
export async function readProperties(
  session: Session,
  database: string,
  signal: AbortSignal,
): Promise<DatabaseProperties> {
  // Columns for locale providers came with 15, 16 and 17: as JSON, a missing one reads as null.
  const row = await session.row(
    rowSchema,
    `SELECT pg_get_userbyid(d.datdba) AS owner, pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate AS collate, d.datctype AS ctype, coalesce(j ->> 'datlocprovider', 'c') AS "localeProvider",
       coalesce(j ->> 'datlocale', j ->> 'daticulocale') AS locale, j ->> 'daticurules' AS "icuRules",
       t.spcname AS tablespace, d.datconnlimit AS "connectionLimit",
       shobj_description(d.oid, 'pg_database') AS comment
     FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace, to_jsonb(d) j
     WHERE d.datname = $1`,
    signal,
    [database],
  );
  const grants = await session.rows(
    grantSchema,
    `SELECT CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END AS grantee,
       a.privilege_type AS privilege, bool_or(a.is_grantable) AS grantable
     FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
     WHERE d.datname = $1 GROUP BY 1, 2 ORDER BY 1 NULLS FIRST, 2`,
    signal,
    [database],
  );
  const settings = await session.rows(
    databaseSettingSchema,
    `SELECT CASE WHEN s.setrole = 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END AS role,
       split_part(item, '=', 1) AS name, substr(item, strpos(item, '=') + 1) AS value
     FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) WITH ORDINALITY AS c(item, place)
     WHERE d.datname = $1 ORDER BY 1 NULLS FIRST, c.place`,
    signal,
    [database],
  );
  return { ...row, grants, settings };
}

/** The names of the server's tablespaces. */
export async function readTablespaces(session: Session, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const rows = await session.rows(
    z.object({ name: z.string() }),
    'SELECT spcname AS name FROM pg_tablespace',
    signal,
  );
  return new Set(rows.map(({ name }) => name));
}

/** `CREATE DATABASE` for an empty database like the captured one. Grants and settings come after the data. */
export function createDatabaseStatement(
  database: string,
  properties: DatabaseProperties,
  target: { readonly major: number; readonly tablespaces: ReadonlySet<string> },
): string {
  const { owner, encoding, collate, ctype, localeProvider, locale, icuRules, tablespace } = properties;
  const clauses = [
    `OWNER ${identifier(owner)} TEMPLATE template0 ENCODING ${literal(encoding)}`,
    `LC_COLLATE ${literal(collate)} LC_CTYPE ${literal(ctype)}`,
  ];
  if (target.major >= 15) clauses.push(providerClause(localeProvider, locale, icuRules));
  // To name the default one takes a right that is not needed to use it.
  if (tablespace !== 'pg_default' && target.tablespaces.has(tablespace)) {
    clauses.push(`TABLESPACE ${identifier(tablespace)}`);
  }
  return `CREATE DATABASE ${identifier(database)} ${clauses.join(' ')}`;
}

function providerClause(provider: string, locale: string | null, icuRules: string | null): string {
  if (provider === 'i') {
    const rules = icuRules === null ? '' : ` ICU_RULES ${literal(icuRules)}`;
    return `LOCALE_PROVIDER icu ICU_LOCALE ${literal(locale ?? '')}${rules}`;
  }
  return provider === 'b'
    ? `LOCALE_PROVIDER builtin BUILTIN_LOCALE ${literal(locale ?? '')}`
    : 'LOCALE_PROVIDER libc';
}

/** Statements that give `database` the captured grants, comment, limit; settings are {@link settingStatements}. */
export function propertyStatements(database: string, properties: DatabaseProperties): string[] {
  const name = identifier(database);
  const grants = properties.grants.map(({ grantee, privilege, grantable }) => {
    const to = grantee === null ? 'PUBLIC' : identifier(grantee);
    return `GRANT ${privilege} ON DATABASE ${name} TO ${to}${grantable ? ' WITH GRANT OPTION' : ''}`;
  });
  return [
    `REVOKE ALL ON DATABASE ${name} FROM PUBLIC`,
    `REVOKE ALL ON DATABASE ${name} FROM ${identifier(properties.owner)}`,
    ...grants,
    ...(properties.comment === null ? [] : [`COMMENT ON DATABASE ${name} IS ${literal(properties.comment)}`]),
    ...(properties.connectionLimit === -1
      ? []
      : [`ALTER DATABASE ${name} CONNECTION LIMIT ${properties.connectionLimit}`]),
  ];
}

/** `ALTER DATABASE … SET`, and for one role in it `ALTER ROLE … IN DATABASE … SET`. */
export function settingStatements(database: string, properties: DatabaseProperties): string[] {
  return properties.settings.map(({ role, name, value }) => {
    const subject =
      role === null
        ? `ALTER DATABASE ${identifier(database)}`
        : `ALTER ROLE ${identifier(role)} IN DATABASE ${identifier(database)}`;
    return `${subject} ${setClause(name, value)}`;
  });
}

/** Settings whose stored value is a list of quoted names (GUC_LIST_QUOTE; pg_dump's dumputils.c has the same). */
const quotedLists = new Set([
  'local_preload_libraries',
  'search_path',
  'session_preload_libraries',
  'shared_preload_libraries',
  'temp_tablespaces',
  'unix_socket_directories',
]);

/** `SET name TO value` for a value as the catalog stores it. */
export function setClause(name: string, value: string): string {
  const quotedName = name.split('.').map(identifier).join('.');
  const items = quotedLists.has(name.toLowerCase()) ? splitNameList(value) : [value];
  return `SET ${quotedName} TO ${items.map(literal).join(', ') || "''"}`;
}

/** Splits `"$user", public` into its names. */
export function splitNameList(list: string): string[] {
  return [...list.matchAll(/"((?:[^"]|"")*)"|([^\s,"]+)/g)].map(([, quoted, bare]) =>
    quoted === undefined ? (bare ?? '') : quoted.replaceAll('""', '"'),
  );
}
