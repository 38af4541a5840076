import type { OperationContext } from '../../../ports/context.ts';
import { DatabaseChecker, integrityCheckBytesMax } from '../sqlite/checker.ts';
import type { DatabaseContent } from '../sqlite/check-worker.ts';
import type { CapturedDatabase } from '../facts.ts';
import type { TreeSink } from '../tree-sink.ts';
import type { MarkedDatabase } from './marked-databases.ts';
import type { MarkedDatabases } from './mark-tree.ts';

/** How many databases of a tree the manifest describes. */
const describedMax = 100;

/** What the databases of a tree came to. */
export interface CheckedDatabases {
  readonly described: readonly CapturedDatabase[];
  /** Paths of those that SQLite read after the mark, as the copy of their files was damaged. */
  readonly takenAgain: readonly string[];
}

/**
 * Has SQLite check what is captured of each database, offline. One whose files fail is read by SQLite itself once more:
 * something may have written to it that nobody knew of. What still fails, or could not be read as one, is missing, by name.
 */
export async function checkDatabases(
  databases: MarkedDatabases,
  { directory, tree, ctx }: { directory: string; tree: TreeSink; ctx: OperationContext },
): Promise<CheckedDatabases> {
  const described: CapturedDatabase[] = [];
  const takenAgain: string[] = [];
  if (databases.size === 0) return { described, takenAgain };
  await using checker = new DatabaseChecker(directory);
  for (const database of databases.values()) {
    let content = await database.check(checker, ctx.signal);
    if (content?.damage !== undefined && database.taken === undefined) {
      const again = await checkAgain(database, checker, ctx.signal);
      if (again !== undefined) takenAgain.push(tree.pathOf(database.path));
      content = again ?? content;
    }
    database.removeCopies();
    const problem = problemOf(database, content);
    if (problem !== undefined) tree.missing(database.path, problem);
    if (content?.unchecked !== undefined)
      ctx.log.warn(
        `${tree.pathOf(database.path)} has the header of a SQLite database and was not checked: ${content.unchecked}`,
      );
    if (described.length < describedMax) described.push(describe(database, content));
  }
  return { described, takenAgain };
}

/** What SQLite itself reads of the live one; undefined where that is damaged as well. */
async function checkAgain(
  database: MarkedDatabase,
  checker: DatabaseChecker,
  signal: AbortSignal,
): Promise<DatabaseContent | undefined> {
  if ((await database.take()) === 'failed') return undefined;
  const content = await database.check(checker, signal);
  if (content !== undefined && content.damage === undefined) return content;
  database.dropTaken();
  return undefined;
}

function problemOf(database: MarkedDatabase, content: DatabaseContent | undefined): string | undefined {
  if (content?.damage !== undefined) return `SQLite found damage in it: ${content.damage}`;
  if (database.taken !== undefined || !database.isTransaction) return undefined;
  const why = database.failure ?? 'it is in use';
  return `SQLite could not read it as a whole, so its files are of different moments: ${why}. Declare the service that writes it as a writer under services: in tars.yaml, so that it is paused`;
}

function describe(database: MarkedDatabase, content: DatabaseContent | undefined): CapturedDatabase {
  const { path, sizeBytes, journal = 'rollback' } = database;
  const problem =
    content === undefined
      ? 'there was no copy of it to check: scratch_dir has no room for one, or the file could not be read'
      : (content.damage ?? content.unchecked);
  const checked = sizeBytes > integrityCheckBytesMax ? 'quick' : 'integrity';
  const unchecked = content?.damage === undefined ? 'none' : 'failed';
  return {
    ...{ path, sizeBytes, journal, check: problem === undefined ? checked : unchecked },
    ...(problem === undefined ? {} : { problem }),
    ...{ tables: [...(content?.tables ?? [])], tableCount: content?.tableCount ?? 0 },
  };
}
