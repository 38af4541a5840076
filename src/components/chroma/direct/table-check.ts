import type { DatabaseSync } from 'node:sqlite';
import { messageOf } from '../../../model/errors.ts';
import { rowsOf } from './tables.ts';

/** Something that SQLite's own check finds. */
export interface TableProblem {
  readonly message: string;
  /** It concerns only the full-text index, which is made of the documents. */
  readonly fullTextOnly: boolean;
}

/**
 * SQLite's structural check of the whole file. The full-text index is derived from the documents, and SQLite calls it
 * malformed as soon as a document holds a NUL character. SQLite has many wordings for that and ends the check with an
 * error for some of them: then every other table is checked on its own.
 */
export function checkTables(database: DatabaseSync): readonly TableProblem[] {
  const fullText = fullTextTables(database);
  const concernsFullText = (message: string): boolean =>
    /\bfts[345]\b/i.test(message) || fullText.some((table) => message.includes(table));
  try {
    return problemsIn(database, '10').map((message) => ({
      message,
      fullTextOnly: concernsFullText(message),
    }));
  } catch (error) {
    const message = messageOf(error);
    if (!concernsFullText(message)) throw error;
    return [{ message, fullTextOnly: true }, ...otherTables(database, fullText)];
  }
}

function otherTables(database: DatabaseSync, fullText: readonly string[]): readonly TableProblem[] {
  const names = rowsOf(database, "SELECT name FROM sqlite_master WHERE type = 'table'")
    .map(({ name }) => String(name))
    .filter((name) => !fullText.includes(name));
  return names.flatMap((name) =>
    problemsIn(database, `"${name.replaceAll('"', '""')}"`).map((message) => ({
      message,
      fullTextOnly: false,
    })),
  );
}

function problemsIn(database: DatabaseSync, argument: string): readonly string[] {
  const lines = rowsOf(database, `PRAGMA quick_check(${argument})`).map((row) => String(row['quick_check']));
  return lines.length === 1 && lines[0] === 'ok' ? [] : lines;
}

function fullTextTables(database: DatabaseSync): readonly string[] {
  const sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%fts5%'";
  return rowsOf(database, sql).map(({ name }) => String(name));
}
