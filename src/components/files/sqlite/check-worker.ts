import { parentPort } from 'node:worker_threads';
import { DatabaseSync } from 'node:sqlite';
import { messageOf } from '../../../model/errors.ts';

/** A copy that nobody else has open. */
export interface CheckRequest {
  readonly path: string;
  /** Nothing lies beside it. SQLite then creates nothing there either. */
  readonly isAlone: boolean;
  /** A transaction that was under way has to be rolled back first, which changes the copy. */
  readonly mayWrite: boolean;
  readonly isQuick: boolean;
  readonly tablesMax: number;
}

/** What a database holds. */
export interface DatabaseContent {
  /** What is wrong with it. */
  readonly damage?: string;
  /** Why it was not, or not wholly, checked. */
  readonly unchecked?: string;
  readonly tables: readonly { readonly name: string; readonly rows?: number }[];
  /** All of them. */
  readonly tableCount: number;
}

/** Of SQLite: the bytes are damaged; they are no database, or an encrypted one. */
const corrupt = 11;
const notADatabase = 26;

function examine({ path, isAlone, mayWrite, isQuick, tablesMax }: CheckRequest): DatabaseContent {
  const url = new URL(`file://${encodeURI(path)}`);
  if (isAlone) url.searchParams.set('immutable', '1');
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(url, { readOnly: !mayWrite });
    // Nothing that the database itself defines is run.
    database.exec('PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON');
    const verdict = verdictOf(database, isQuick);
    return { ...verdict, ...tablesOf(database, tablesMax) };
  } catch (error) {
    return { ...verdictOfError(error), tables: [], tableCount: 0 };
  } finally {
    database?.close();
  }
}

type Verdict = Pick<DatabaseContent, 'damage' | 'unchecked'>;

function verdictOf(database: DatabaseSync, isQuick: boolean): Verdict {
  try {
    const [row] = database.prepare(isQuick ? 'PRAGMA quick_check(1)' : 'PRAGMA integrity_check(1)').all();
    const [told] = Object.values(row ?? {});
    return told === 'ok' ? {} : { damage: String(told).replace(/\s+/g, ' ') };
  } catch (error) {
    return verdictOfError(error);
  }
}

function verdictOfError(error: unknown): Verdict {
  const code = (error as { errcode?: number }).errcode ?? 0;
  const message = messageOf(error);
  if ((code & 0xff) === corrupt) return { damage: message };
  // Such as a collation that only its own program has.
  return { unchecked: (code & 0xff) === notADatabase ? 'it is encrypted, or no database' : message };
}

function tablesOf(database: DatabaseSync, tablesMax: number): Pick<DatabaseContent, 'tables' | 'tableCount'> {
  const names = database
    .prepare(
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )
    .all()
    .map(({ name }) => String(name));
  return {
    tables: names.slice(0, tablesMax).map((name) => tableOf(database, name)),
    tableCount: names.length,
  };
}

function tableOf(database: DatabaseSync, name: string): DatabaseContent['tables'][number] {
  try {
    const row = database.prepare(`SELECT count(*) AS rows FROM "${name.replaceAll('"', '""')}"`).get();
    return { name, rows: Number(row?.['rows']) };
  } catch {
    // A virtual table whose module only its own program has.
    return { name };
  }
}

const port = parentPort;
if (port === null) throw new Error('This module runs as a worker thread');
port.on('message', (request: CheckRequest) => {
  port.postMessage(examine(request) satisfies DatabaseContent);
});
