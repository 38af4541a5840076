import { closeSync, existsSync, openSync, readdirSync, readSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isMissing } from '../../../disk/is-there.ts';
import { hasErrno, messageOf, TarsError } from '../../../model/errors.ts';
import type { Migration } from '../facts.ts';
import type { Metadata, MetadataValue } from '../record.ts';
import { spaceOf, type Space } from '../space.ts';

/** Chroma's one SQLite file in a persist directory. */
export const sqliteFileName = 'chroma.sqlite3';

/** What SQLite keeps beside it while a transaction is under way; meaningless beside any other state of the file. */
export const transientFileNames: readonly string[] = ['-journal', '-wal', '-shm'].map(
  (suffix) => `${sqliteFileName}${suffix}`,
);

/** A row of `collections` with what belongs to it. */
export interface StoredCollection {
  readonly id: string;
  readonly name: string;
  readonly tenant: string;
  readonly database: string;
  readonly dimension: number | null;
  readonly metadata: Metadata | null;
  readonly configuration: string | null;
  readonly schema: string | null;
  readonly space: Space;
  readonly vectorSegment: string | undefined;
  readonly metadataSegment: string | undefined;
}

/** A row by column. Integers are bigint. */
export type Row = Readonly<Record<string, unknown>>;

/** Columns of `collection_metadata` and `embedding_metadata` that hold one value. */
export interface ValueColumns {
  readonly text: unknown;
  readonly int: unknown;
  readonly float: unknown;
  readonly bool: unknown;
}

/** The one of the four typed columns that is set. */
export function valueOf({ text, int, float, bool }: ValueColumns): MetadataValue | undefined {
  if (typeof text === 'string') return text;
  if (typeof int === 'bigint') return int;
  if (typeof float === 'number') return float;
  if (typeof bool === 'bigint') return bool !== 0n;
  return undefined;
}

/** Opens `chroma.sqlite3` for reading only. The caller closes it. @throws TarsError `capture-failed` */
export function openTables(directory: string): DatabaseSync {
  const path = join(directory, sqliteFileName);
  try {
    const database = new DatabaseSync(path, { readOnly: true });
    // Not the option, which Node 22.15 does not know.
    database.exec('PRAGMA busy_timeout = 5000');
    return database;
  } catch (cause) {
    throw new TarsError('capture-failed', `Cannot open ${path}: ${messageOf(cause)}`, {
      ...(hasErrno(cause, 'ENOENT') ? {} : { hint: 'Check that it is readable for the user who runs tars.' }),
      cause,
    });
  }
}

/** Whether SQLite has to roll a transaction back before the file can be read, as its writer was killed. */
export function hasHotJournal(directory: string): boolean {
  try {
    // SQLite ends a rollback journal by removing it, by emptying it or by zeroing its header.
    const journal = openSync(join(directory, `${sqliteFileName}-journal`), 'r');
    try {
      const first = Buffer.alloc(1);
      return readSync(journal, first, 0, 1, 0) === 1 && first[0] !== 0;
    } finally {
      closeSync(journal);
    }
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/**
 * Like {@link openTables}, for plans: a transaction that was cut short is neither rolled back nor waited for, so that
 * nothing is written. What is read may then be half of that transaction.
 */
export function openTablesForPlan(directory: string): DatabaseSync {
  if (!hasHotJournal(directory)) return openTables(directory);
  const url = pathToFileURL(join(directory, sqliteFileName));
  url.searchParams.set('immutable', '1');
  return new DatabaseSync(url, { readOnly: true });
}

/** All rows with integers as bigint. */
export function rowsOf(database: DatabaseSync, sql: string, ...parameters: string[]): Row[] {
  const statement = database.prepare(sql);
  statement.setReadBigInts(true);
  return statement.all(...parameters);
}

/** Whether the database has the table, whatever is in it. */
export function hasTable(database: DatabaseSync, name: string): boolean {
  return rowsOf(database, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", name).length > 0;
}

/**
 * How many vector indexes lie beside tables that are gone: a server killed at its first start leaves none.
 */
export function countIndexesWithoutTables(directory: string, database: DatabaseSync): number {
  if (hasTable(database, 'collections')) return 0;
  const headers = readdirSync(directory).map((name) => join(directory, name, 'header.bin'));
  return headers.filter((path) => existsSync(path)).length;
}

/** The highest applied migration per directory. */
export function readMigrations(database: DatabaseSync): Migration[] {
  if (!hasTable(database, 'migrations')) return [];
  return rowsOf(
    database,
    'SELECT dir, max(version) AS version FROM migrations GROUP BY dir ORDER BY dir',
  ).map((row) => ({ dir: String(row['dir']), version: Number(row['version']) }));
}

/** Tenants with their databases, empty ones too, and tenants that only their databases name. */
export function readTenants(database: DatabaseSync): { name: string; databases: string[] }[] {
  if (!hasTable(database, 'tenants')) return [{ name: 'default_tenant', databases: ['default_database'] }];
  const all = 'SELECT id FROM tenants UNION SELECT tenant_id FROM databases ORDER BY id';
  return rowsOf(database, all).map(({ id }) => ({
    name: String(id),
    databases: rowsOf(
      database,
      'SELECT name FROM databases WHERE tenant_id = ? ORDER BY name',
      String(id),
    ).map((row) => String(row['name'])),
  }));
}

/** The columns of a table; none when there is no such table. */
export function columnsOf(database: DatabaseSync, table: string): ReadonlySet<string> {
  return new Set(rowsOf(database, `PRAGMA table_info(${table})`).map((row) => String(row['name'])));
}

/** How much the collections hold: what deleted ones left in the tables does not count. */
export function countStored(database: DatabaseSync): {
  readonly collections: number;
  readonly records: number;
} {
  if (!hasTable(database, 'collections')) return { collections: 0, records: 0 };
  const count = (sql: string): number => Number(rowsOf(database, sql)[0]?.['count'] ?? 0);
  const collections = count('SELECT count(*) AS count FROM collections');
  if (!hasTable(database, 'embeddings')) return { collections, records: 0 };
  const records = count(
    `SELECT count(*) AS count FROM embeddings WHERE segment_id IN
     (SELECT s.id FROM segments s JOIN collections c ON c.id = s.collection WHERE s.scope = 'METADATA')`,
  );
  return { collections, records };
}

/** Every collection, by tenant, database and name; none in the file that a server killed at its first start leaves. */
export function readCollections(database: DatabaseSync): StoredCollection[] {
  const columns = columnsOf(database, 'collections');
  if (columns.size === 0) return [];
  const column = (name: string): string => (columns.has(name) ? `c.${name}` : 'NULL');
  const placed = columns.has('database_id');
  const sql = `SELECT c.id, c.name, c.dimension, ${column('config_json_str')} AS configuration,
    ${column('schema_str')} AS schema,
    ${placed ? 'd.name' : "'default_database'"} AS database, ${placed ? 'd.tenant_id' : "'default_tenant'"} AS tenant
    FROM collections c ${placed ? 'JOIN databases d ON d.id = c.database_id' : ''}
    ORDER BY tenant, database, c.name`;
  return rowsOf(database, sql).map((row) => storedCollection(database, row));
}

function storedCollection(database: DatabaseSync, row: Row): StoredCollection {
  const id = String(row['id']);
  const segments = new Map(
    rowsOf(database, 'SELECT id, scope FROM segments WHERE collection = ?', id).map((segment) => [
      segment['scope'],
      String(segment['id']),
    ]),
  );
  const vectorSegment = segments.get('VECTOR');
  const metadata = metadataOf(database, 'collection', id);
  const segmentMetadata = vectorSegment === undefined ? null : metadataOf(database, 'segment', vectorSegment);
  const configuration = textOrNull(row['configuration']);
  const schema = textOrNull(row['schema']);
  return {
    id,
    name: String(row['name']),
    tenant: String(row['tenant']),
    database: String(row['database']),
    dimension: row['dimension'] === null ? null : Number(row['dimension']),
    metadata: metadata.size === 0 ? null : metadata,
    configuration,
    schema,
    space: spaceOf({ schema, configuration }, segmentMetadata),
    vectorSegment,
    metadataSegment: segments.get('METADATA'),
  };
}

const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null);

/** What `collection_metadata` or `segment_metadata` holds. */
function metadataOf(database: DatabaseSync, of: 'collection' | 'segment', id: string): Metadata {
  const table = `${of}_metadata`;
  const bool = columnsOf(database, table).has('bool_value') ? 'bool_value' : 'NULL';
  const sql = `SELECT key, str_value AS text, int_value AS int, float_value AS float, ${bool} AS bool
    FROM ${table} WHERE ${of}_id = ?`;
  const metadata = new Map<string, MetadataValue>();
  for (const row of rowsOf(database, sql, id)) {
    const value = valueOf(row as unknown as ValueColumns);
    if (value !== undefined) metadata.set(String(row['key']), value);
  }
  return metadata;
}

/** Up to which sequence number a segment has taken operations from the queue; 0 before the first. */
export function readMaxSeqId(database: DatabaseSync, segment: string | undefined): bigint | undefined {
  if (segment === undefined) return undefined;
  const value = rowsOf(database, 'SELECT seq_id FROM max_seq_id WHERE segment_id = ?', segment)[0]?.[
    'seq_id'
  ];
  if (typeof value === 'bigint') return value;
  // Up to 0.4 it was a big-endian blob.
  if (value instanceof Uint8Array) return BigInt(`0x0${Buffer.from(value).toString('hex')}`);
  return undefined;
}
