import { closeSync, constants } from 'node:fs';
import { openScratch } from '../../disk/run-scratch.ts';
import type { OpenedPath } from '../../disk/open-path.ts';
import type { OperationContext } from '../../ports/context.ts';
import { isAtRest, MarkedDatabase } from './cut/marked-databases.ts';
import { ScratchCopies } from './cut/scratch-copies.ts';
import type { CapturedDatabase } from './facts.ts';
import type { DatabaseContent } from './sqlite/check-worker.ts';
import { DatabaseChecker } from './sqlite/checker.ts';
import { companionSuffixes } from './sqlite/header.ts';
import { openAlong, splitPath } from './tree/along.ts';
import { fileIdentity } from './tree/entry.ts';
import type { OpenDirectory } from '../../disk/open-directory.ts';

/** How the rows of a live database differ from those that were captured. */
export interface DatabaseDifference {
  /** Relative to the tree. */
  readonly path: string;
  readonly what: string;
}

/** Compares the tables and rows of live databases with those of the capture. Nothing is written beside them. */
export async function compareDatabases(
  captured: readonly CapturedDatabase[],
  live: OpenedPath,
  scratchDir: string,
  ctx: OperationContext,
): Promise<readonly DatabaseDifference[]> {
  if (captured.length === 0) return [];
  await using scratch = await openScratch(scratchDir, 'files');
  await using checker = new DatabaseChecker(scratch.path);
  const copies = new ScratchCopies(scratch.path, ctx.clock);
  const differences: DatabaseDifference[] = [];
  for (const database of captured) {
    await copies.measureSpace();
    const content = await readLive(database, live, { copies, checker, ctx });
    const what = content === undefined ? undefined : differenceOf(database, content);
    if (what !== undefined) differences.push({ path: database.path, what });
  }
  return differences;
}

interface ReadContext {
  readonly copies: ScratchCopies;
  readonly checker: DatabaseChecker;
  readonly ctx: OperationContext;
}

/** Undefined where it cannot be read as a whole now. */
async function readLive(
  { path }: CapturedDatabase,
  { path: root, directory }: OpenedPath,
  { copies, checker, ctx }: ReadContext,
): Promise<DatabaseContent | undefined> {
  const { above, name } = splitPath(path);
  using parent = openAlong(directory, above);
  const stats = parent.lstat(name);
  if (stats === undefined) return undefined;
  const nowNs = BigInt(ctx.clock.now().getTime()) * 1_000_000n;
  using database = new MarkedDatabase(
    { path, identity: fileIdentity(stats), journal: undefined },
    root,
    copies,
  );
  if (isAtRest(parent, name, nowNs)) {
    for (const suffix of ['', ...companionSuffixes] as const)
      database.add(suffix, await copyIfThere(parent, name + suffix, copies, ctx), false);
  } else await database.take();
  try {
    return await database.check(checker, ctx.signal);
  } finally {
    database.removeCopies();
    if (database.taken !== undefined) copies.remove(database.taken);
  }
}

async function copyIfThere(
  parent: OpenDirectory,
  name: string,
  copies: ScratchCopies,
  { signal }: OperationContext,
): Promise<string | undefined> {
  if (parent.lstat(name)?.isFile() !== true) return undefined;
  const descriptor = parent.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return await copies.copy(descriptor, { signal });
  } finally {
    closeSync(descriptor);
  }
}

function differenceOf({ tables }: CapturedDatabase, now: DatabaseContent): string | undefined {
  if (now.damage !== undefined) return `is damaged: ${now.damage}`;
  const differing = tables.flatMap(({ name, rows }) => {
    const table = now.tables.find((each) => each.name === name);
    if (table === undefined)
      return now.tables.length < now.tableCount ? [] : [`the table ${name} is missing`];
    if (rows === undefined || table.rows === undefined || rows === table.rows) return [];
    return [`${name} has ${table.rows} rows instead of ${rows}`];
  });
  return differing.length === 0 ? undefined : `has other rows than in the snapshot: ${differing.join(', ')}`;
}
