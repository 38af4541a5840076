import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { z } from 'zod';
import { hasErrno, messageOf, TarsError } from '../../../model/errors.ts';
import { spaceSchema, type Migration, type Space } from '../facts.ts';
import { parseLosslessJson, type Metadata, type MetadataValue } from '../record.ts';

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

/** The highest applied migration per directory. */
export function readMigrations(database: DatabaseSync): Migration[] {
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

/** Every collection, by tenant, database and name. */
export function readCollections(database: DatabaseSync): StoredCollection[] {
  const columns = new Set(rowsOf(database, 'PRAGMA table_info(collections)').map((row) => row['name']));
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
  const metadata = collectionMetadata(database, id);
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
    space: spaceOf(schema, configuration, metadata),
    vectorSegment: segments.get('VECTOR'),
    metadataSegment: segments.get('METADATA'),
  };
}

const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null);

function collectionMetadata(database: DatabaseSync, collection: string): Metadata {
  const columns = new Set(
    rowsOf(database, 'PRAGMA table_info(collection_metadata)').map((row) => row['name']),
  );
  const bool = columns.has('bool_value') ? 'bool_value' : 'NULL';
  const sql = `SELECT key, str_value AS text, int_value AS int, float_value AS float, ${bool} AS bool
    FROM collection_metadata WHERE collection_id = ?`;
  const metadata = new Map<string, MetadataValue>();
  for (const row of rowsOf(database, sql, collection)) {
    const value = valueOf(row as unknown as ValueColumns);
    if (value !== undefined) metadata.set(String(row['key']), value);
  }
  return metadata;
}

const spaceHolder = z.object({ space: spaceSchema });
const hnswHolder = z.object({ hnsw: spaceHolder });
/** Where each generation of Chroma keeps the distance function, newest first. */
const schemaPath = z.object({
  keys: z.object({
    '#embedding': z.object({
      float_list: z.object({ vector_index: z.object({ config: spaceHolder }) }),
    }),
  }),
});
const configurationPath = z.object({ vector_index: hnswHolder });
const legacyConfigurationPath = z.object({ hnsw_configuration: spaceHolder });

/** The distance function. Before 1.0 it lay in the collection's metadata; l2 is Chroma's default. */
export function spaceOf(schema: string | null, configuration: string | null, metadata: Metadata): Space {
  const inSchema = schemaPath.safeParse(parsedOrNull(schema));
  if (inSchema.success) return inSchema.data.keys['#embedding'].float_list.vector_index.config.space;
  const parsed = parsedOrNull(configuration);
  const current = configurationPath.safeParse(parsed);
  if (current.success) return current.data.vector_index.hnsw.space;
  const inMetadata = spaceSchema.safeParse(metadata.get('hnsw:space'));
  if (inMetadata.success) return inMetadata.data;
  const legacy = legacyConfigurationPath.safeParse(parsed);
  return legacy.success ? legacy.data.hnsw_configuration.space : 'l2';
}

function parsedOrNull(text: string | null): unknown {
  if (text === null) return null;
  try {
    return parseLosslessJson(text);
  } catch {
    return null;
  }
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
