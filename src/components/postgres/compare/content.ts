import { z } from 'zod';
import { messageOf, TarsError } from '../../../model/errors.ts';
import type {
  ContentFacts,
  LargeObjectFacts,
  SchemaFacts,
  SequenceFacts,
  TableFacts,
  Unread,
} from '../facts.ts';
import { literal, qualified } from '../names.ts';
import { operatorUsesMax, readOperatorUses } from './operator-uses.ts';
import { ownRelations } from './schema-definitions.ts';
import { readDetails } from './details.ts';
import { readSchema } from './schema.ts';
import { sqlState, type Session } from '../connection/session.ts';

const relationSchema = z.object({ schema: z.string(), name: z.string(), kind: z.string() });

const storedSchema = relationSchema.extend({
  rootSchema: z.string(),
  rootName: z.string(),
  /** The columns of the alias `tars`, for a ROW(). */
  columns: z.string(),
  /** Of a table that belongs to an extension: which of its rows are dumped, as a WHERE clause or nothing. */
  condition: z.string().nullable(),
});
type StoredRelation = z.infer<typeof storedSchema>;

/**
 * Relations whose rows a dump holds: those of nobody else, and what extensions declare as configuration
 * (pg_extension_config_dump). Columns are in the order of their names: pg_dump puts inherited ones first.
 */
async function readRelations(session: Session, signal: AbortSignal): Promise<StoredRelation[]> {
  return session.rows(
    storedSchema,
    `SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       coalesce(rn.nspname, n.nspname) AS "rootSchema", coalesce(r.relname, c.relname) AS "rootName",
       coalesce((SELECT string_agg('tars.' || quote_ident(a.attname), ', ' ORDER BY a.attname COLLATE "C")
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '') AS columns,
       c.condition
     FROM (SELECT c.*, NULL AS condition ${ownRelations}
             AND (c.relkind = 'r' OR (c.relkind = 'm' AND c.relispopulated))
           UNION ALL SELECT c.*, config.condition
           FROM pg_extension e, unnest(e.extconfig, e.extcondition) config(oid, condition), pg_class c
           WHERE c.oid = config.oid AND c.relkind = 'r') c
       JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_class r ON c.relispartition AND r.oid = pg_partition_root(c.oid)
       LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace
     ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`,
    signal,
  );
}

/**
 * Fails while failing is cheap: pg_dump needs to read everything.
 * @throws TarsError `access-denied` naming tables or sequences the user may not read
 */
export async function requireReadable(session: Session, user: string, signal: AbortSignal): Promise<void> {
  const unreadable = await session.rows(
    z.object({ name: z.string() }),
    `SELECT n.nspname || '.' || c.relname AS name ${ownRelations}
       AND CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN true
                WHEN c.relkind IN ('r', 'p', 'm') THEN NOT has_table_privilege(c.oid, 'SELECT')
                WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'SELECT')
                ELSE false END
       AND c.relkind IN ('r', 'p', 'm', 'S')
     ORDER BY 1 LIMIT 5`,
    signal,
  );
  if (unreadable.length === 0) return;
  throw new TarsError(
    'access-denied',
    `User ${user} may not read ${unreadable.map(({ name }) => name).join(', ')} in database "${session.database}"`,
    { hint: `GRANT pg_read_all_data TO ${user}, or configure a superuser for this component.` },
  );
}

/** How many locks may be taken from the server's common table; shared by all databases of a capture. */
export interface LockBudget {
  left: number;
}

/** A quarter of the lock table: pg_dump and the applications need theirs. */
export async function readLockBudget(session: Session, signal: AbortSignal): Promise<LockBudget> {
  return session.row(
    z.object({ left: z.coerce.number() }),
    `SELECT (current_setting('max_locks_per_transaction')::bigint * (current_setting('max_connections')::bigint
       + current_setting('max_prepared_transactions')::bigint) / 4)::text AS left`,
    signal,
  );
}

/**
 * Locks every table of the snapshot against being dropped, rewritten or truncated until the transaction ends.
 * What happened since the mark is for {@link requireUnchanged} to see.
 * @returns false when the budget is too small for them: then what happens until pg_dump has its own locks has to be
 *   looked at afterwards
 * @throws TarsError `capture-failed`
 */
export async function holdRelations(
  session: Session,
  budget: LockBudget,
  signal: AbortSignal,
): Promise<boolean> {
  const tables = await readIdentities(session, signal);
  if (tables.length > budget.left) return false;
  budget.left -= tables.length;
  try {
    await session.run(`SAVEPOINT hold; SET LOCAL lock_timeout = '${lockTimeoutMs}ms'`, signal);
    for (let from = 0; from < tables.length; from += lockBatch) {
      const names = tables.slice(from, from + lockBatch).map(({ schema, name }) => qualified(schema, name));
      await session.run(`LOCK TABLE ONLY ${names.join(', ONLY ')} IN ACCESS SHARE MODE`, signal);
    }
    return true;
  } catch (error) {
    // out_of_memory: the lock table is full of the locks of others.
    if (sqlState(error) === '53200') {
      await session.run('ROLLBACK TO SAVEPOINT hold', signal);
      return false;
    }
    // undefined_table, invalid_schema_name, wrong_object_type, lock_not_available, deadlock_detected
    if (!['42P01', '3F000', '42809', '55P03', '40P01'].includes(sqlState(error) ?? '')) throw error;
    throw schemaChanged(session.database, `a table cannot be locked: ${(error as Error).message}`, error);
  }
}

/**
 * Makes sure that the tables held are still those of the snapshot. Tables are found by their present names and read
 * with their present files and columns even in an older snapshot: a truncated one would be empty there, a renamed
 * one another, without an error.
 * @param present a session in the same database outside of the snapshot
 * @throws TarsError `capture-failed`
 */
export async function requireUnchanged(
  session: Session,
  present: Session,
  signal: AbortSignal,
): Promise<void> {
  const now = new Map((await readIdentities(present, signal)).map((table) => [table.oid, table.identity]));
  const changed = (await readIdentities(session, signal)).filter(
    ({ oid, identity }) => now.get(oid) !== identity,
  );
  if (changed.length === 0) return;
  const some = changed.slice(0, 5).map(({ schema, name }) => `${schema}.${name}`);
  throw schemaChanged(
    session.database,
    `truncated, rewritten or altered just after the cut: ${some.join(', ')}`,
  );
}

function schemaChanged(database: string, what: string, cause?: unknown): TarsError {
  return new TarsError(
    'capture-failed',
    `Tables of database "${database}" were changed during the backup: ${what}`,
    {
      hint: 'Run the backup again, at a moment without schema changes.',
      cause,
    },
  );
}

const identitySchema = z.object({
  oid: z.string(),
  schema: z.string(),
  name: z.string(),
  /** Changes when the table is truncated, rewritten, renamed or given other columns. */
  identity: z.string(),
});

async function readIdentities(
  session: Session,
  signal: AbortSignal,
): Promise<z.infer<typeof identitySchema>[]> {
  return session.rows(
    identitySchema,
    `SELECT c.oid::text AS oid, n.nspname AS schema, c.relname AS name,
       jsonb_build_array(n.nspname, c.relname, c.relfilenode, c.relnatts,
         (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
       )::text AS identity ${ownRelations} AND c.relkind = 'r'
     ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`,
    signal,
  );
}

/** How long a table's lock may be waited for, by us and by pg_dump. */
export const lockTimeoutMs = 60_000;
const lockBatch = 500;

const sequenceRowSchema = relationSchema.extend({ descending: z.boolean(), cycles: z.boolean() });

/** The sequences' present values: they are outside of every snapshot. */
export async function readSequences(session: Session, signal: AbortSignal): Promise<SequenceFacts[]> {
  const sequences = await session.rows(
    sequenceRowSchema,
    `SELECT schema, name, kind, s.seqincrement < 0 AS descending, s.seqcycle AS cycles
     FROM (SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind ${ownRelations}
             AND c.relkind = 'S') r
     JOIN pg_sequence s ON s.seqrelid = r.oid
     ORDER BY schema COLLATE "C", name COLLATE "C"`,
    signal,
  );
  const facts: SequenceFacts[] = [];
  for (const { schema, name, descending, cycles } of sequences) {
    const value = await session.row(
      z.object({ lastValue: z.string(), isCalled: z.boolean() }),
      `SELECT last_value::text AS "lastValue", is_called AS "isCalled" FROM ${qualified(schema, name)}`,
      signal,
    );
    facts.push({ schema, name, ...value, descending, cycles });
  }
  return facts;
}

const rowSummarySchema = z.object({ rows: z.coerce.number(), hash: z.string() });
type RowSummary = z.infer<typeof rowSummarySchema>;

/**
 * Counts and hashes one table's rows. The sum does not depend on their order; ONLY leaves a child table's rows to
 * the child. ROW() reads as text through its columns' output functions, which no cast of the database can replace.
 */
async function readRows(
  session: Session,
  relation: StoredRelation,
  signal: AbortSignal,
): Promise<RowSummary> {
  const { schema, name, columns, condition } = relation;
  return session.row(
    rowSummarySchema,
    `SELECT count(*)::text AS rows,
       coalesce(sum(hashtextextended(ROW(${columns})::text COLLATE "C", 0)::numeric), 0)::text AS hash
     FROM ONLY ${qualified(schema, name)} AS tars ${condition ?? ''}`,
    signal,
  );
}

/** Reads with a search_path that is only computed when it is needed. */
type SearchPath = () => Promise<string>;

/**
 * A table's rows without a search_path and, where that fails, with the database's own: planning looks at the table's
 * indexes and statistics, and the functions in them may call others by bare names.
 */
async function readRowsSomehow(
  session: Session,
  relation: StoredRelation,
  searchPath: SearchPath,
  signal: AbortSignal,
): Promise<RowSummary> {
  try {
    return await undone(session, () => readRows(session, relation, signal), signal);
  } catch (error) {
    if (!isAnswer(error)) throw error;
    const path = await searchPath();
    const again = async (): Promise<RowSummary> => {
      await session.run(`SET LOCAL search_path = ${path}`, signal);
      return readRows(session, relation, signal);
    };
    return undone(session, again, signal);
  }
}

/**
 * Partitions count as the table they are parts of: a restore may distribute the rows anew (hash partitions by an
 * enum do). A table with a part that cannot be read is unread.
 */
async function readTables(
  session: Session,
  searchPath: SearchPath,
  unread: Unread[],
  signal: AbortSignal,
): Promise<TableFacts[]> {
  const tables = new Map<string, TableFacts>();
  for (const relation of await readRelations(session, signal)) {
    const table = { schema: relation.rootSchema, name: relation.rootName };
    const key = qualified(table.schema, table.name);
    try {
      const { rows, hash } = await readRowsSomehow(session, relation, searchPath, signal);
      const sofar = tables.get(key) ?? { rows: 0, hash: '0' };
      tables.set(key, {
        ...table,
        kind: kindOf(relation),
        rows: sofar.rows + rows,
        hash: String(BigInt(sofar.hash) + BigInt(hash)),
      });
    } catch (error) {
      if (!isAnswer(error)) throw error;
      const what = `table ${relation.rootSchema}.${relation.rootName}`;
      unread.push({ what, table, reason: messageOf(error) });
    }
  }
  for (const { table } of unread) if (table !== undefined) tables.delete(qualified(table.schema, table.name));
  return [...tables.values()];
}

function kindOf({ kind, condition }: StoredRelation): TableFacts['kind'] {
  if (condition !== null) return 'extension-table';
  return kind === 'm' ? 'materialised-view' : 'table';
}

/** True when the server answered a statement with an error of its own, and the session goes on. */
function isAnswer(error: unknown): boolean {
  const state = sqlState(error);
  // operator_intervention: the session is being ended.
  return state !== undefined && !state.startsWith('57');
}

/**
 * Undoes everything but the result: locks on tables and their indexes last to the end of a transaction, and a capture
 * has many tables and one transaction.
 */
async function undone<T>(session: Session, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  await session.run('SAVEPOINT reading', signal);
  try {
    return await work();
  } finally {
    await session.run('ROLLBACK TO SAVEPOINT reading; RELEASE SAVEPOINT reading', signal);
  }
}

const largeObjectPieceBytes = 256 * 1024;

/** Reads piece by piece: a large object may be bigger than any value (4 TB against 1 GB). */
async function readLargeObjects(session: Session, signal: AbortSignal): Promise<LargeObjectFacts> {
  const piece = (oid: string, number: string): string =>
    `LATERAL (SELECT lo_get(${oid}, (${number}) * ${largeObjectPieceBytes}::bigint, ${largeObjectPieceBytes}) AS bytes OFFSET 0) p`;
  return session.row(
    z.object({ count: z.coerce.number(), sizeBytes: z.coerce.number(), hash: z.string() }),
    `WITH RECURSIVE pieces(oid, number, size, digest) AS (
       SELECT m.oid, 0::bigint, length(p.bytes), encode(sha256(p.bytes), 'hex')
         FROM pg_largeobject_metadata m, ${piece('m.oid', '0')}
       UNION ALL
       SELECT s.oid, s.number + 1, length(p.bytes), encode(sha256(p.bytes), 'hex')
         FROM pieces s, ${piece('s.oid', 's.number + 1')}
        WHERE s.size = ${largeObjectPieceBytes})
     SELECT count(*) FILTER (WHERE number = 0)::text AS count, coalesce(sum(size), 0)::text AS "sizeBytes",
       coalesce(sum(hashtextextended(concat_ws(':', oid, number, digest) COLLATE "C", 0)::numeric), 0)::text AS hash
     FROM pieces`,
    signal,
  );
}

/** What is read of a database, and how. */
interface ContentReading {
  /** Passed in because they must be read before a dump that is running by now. */
  readonly sequences: readonly SequenceFacts[];
  readonly searchPath: SearchPath;
  /** What could not be read so far. */
  readonly unread: readonly Unread[];
  /** What the schema is to be compared with, if any. */
  readonly schema?: SchemaFacts | undefined;
  /** The same for the details. */
  readonly details?: SchemaFacts | undefined;
}

/** Reads what verification compares, in the session's transaction. What cannot be read is named, and no error. */
export async function readContent(
  session: Session,
  { sequences, searchPath, unread: sofar, schema, details }: ContentReading,
  signal: AbortSignal,
): Promise<ContentFacts> {
  const unread = [...sofar];
  const part = <T>(what: string, instead: T, read: () => Promise<T>): Promise<T> =>
    readPart(session, { what, instead, unread }, read, signal);
  const list = <T>(what: string, row: z.ZodType<T>, sql: string): Promise<T[]> =>
    part(what, [], () => session.rows(row, sql, signal));
  const content = {
    schema: await part('the schemas', undefined, () => readSchema(session, schema, signal)),
    details: await part('the details', undefined, () => readDetails(session, details, signal)),
    tables: await part('the tables', [], () => readTables(session, searchPath, unread, signal)),
    sequences: [...sequences],
    largeObjects: await part('the large objects', { count: 0, sizeBytes: 0, hash: '0' }, () =>
      readLargeObjects(session, signal),
    ),
    extensions: await list(
      'the extensions',
      z.object({ name: z.string(), version: z.string(), schema: z.string() }),
      `SELECT extname AS name, extversion AS version, extnamespace::regnamespace::text AS schema FROM pg_extension ORDER BY extname COLLATE "C"`,
    ),
    subscriptions: await list(
      'the subscriptions',
      z.object({ name: z.string() }),
      `SELECT subname AS name FROM pg_subscription JOIN pg_database d ON d.oid = subdbid
       WHERE d.datname = current_database() ORDER BY subname COLLATE "C"`,
    ),
    tablespaces: await list(
      'the tablespaces',
      z.object({ name: z.string() }),
      `SELECT DISTINCT s.spcname AS name FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace
       WHERE NOT c.relisshared ORDER BY 1`,
    ),
    invalidIndexes: await list(
      'the invalid indexes',
      z.object({ schema: z.string(), name: z.string() }),
      `SELECT n.nspname AS schema, c.relname AS name ${ownRelations} AND c.oid IN (
         SELECT indexrelid FROM pg_index WHERE NOT indisvalid)
       ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`,
    ),
    operatorUses: await part('the operators', undefined, () => readOperatorUses(session, signal)),
  };
  if (content.operatorUses === undefined && !unread.some(({ what }) => what === 'the operators')) {
    unread.push({ what: 'the operators', reason: `more than ${operatorUsesMax} definitions use some` });
  }
  return { ...content, ...(unread.length === 0 ? {} : { unread }) };
}

/** The facts of a database of which nothing could be read. */
export const nothingRead = (unread: Unread): ContentFacts => ({
  tables: [],
  sequences: [],
  largeObjects: { count: 0, sizeBytes: 0, hash: '0' },
  extensions: [],
  subscriptions: [],
  tablespaces: [],
  invalidIndexes: [],
  unread: [unread],
});

/** One part of what is read, for {@link readPart}. */
interface Part<T> {
  readonly what: string;
  /** What stands for it when it cannot be read. */
  readonly instead: T;
  readonly unread: Unread[];
}

/** Reads something in a transaction that goes on when that fails, and keeps none of its locks. */
export async function readPart<T>(
  session: Session,
  { what, instead, unread }: Part<T>,
  read: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  try {
    return await undone(session, read, signal);
  } catch (error) {
    if (!isAnswer(error)) throw error;
    unread.push({ what, reason: messageOf(error) });
    return instead;
  }
}

/** Databases a capture covers when none are configured, or the configured ones. @see isAside */
export function databaseFilter(databases: readonly string[] | undefined): string {
  return databases === undefined
    ? `NOT d.datistemplate AND d.datallowconn`
    : `d.datname IN (${databases.map(literal).join(', ') || 'NULL'})`;
}
