import { TarsError } from '../../model/errors.ts';
import type { Bytes } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Client } from './connection/client.ts';
import { literal } from './names.ts';
import { conninfo, feedProgram, type Program } from './connection/programs.ts';
import { RestoreReportReader, type Rejection } from './rejections.ts';

/** One dump and the empty database it is restored into. */
export interface DumpRestore {
  readonly client: Client;
  readonly database: string;
  readonly flags: readonly string[];
  /** Only a superuser may load data with triggers and event triggers at rest. */
  readonly superuser: boolean;
  /** The dump from its beginning; called again when entries are tried a second time. */
  readonly open: () => Bytes;
  /** The path for the second attempt, read once the first one is over. */
  readonly searchPath: () => Promise<string>;
}

/**
 * Restores everything that the server takes, as pg_restore does by default. Entries it did not take are tried again
 * at the end, with everything else in place and with the database's own search_path: the check of a row may read a
 * table that comes later, and functions of indexes, checks and materialised views often call others by their bare
 * names, which the empty search_path of a dump hides.
 * @returns what the server did not take either time
 * @throws TarsError `subprocess` when pg_restore did not get through the dump
 */
export async function restoreWhatIsTaken(
  restore: DumpRestore,
  { signal, log }: OperationContext,
): Promise<readonly Rejection[]> {
  const first = await runRestore(restore, pgRestore(restore), restore.open(), signal);
  if (first.length > 0)
    log.info(`${restore.database}: ${first.length} entries of the dump are tried again after all others`);
  return restoreAgain(restore, first, signal);
}

/**
 * Tries entries again that the server did not take, with the database's own search_path.
 * @returns those that it does not take now either
 */
export async function restoreAgain(
  restore: DumpRestore,
  rejections: readonly Rejection[],
  signal: AbortSignal,
): Promise<readonly Rejection[]> {
  const again = rejections.filter(({ tableData }) => tableData === undefined || restore.superuser);
  if (again.length === 0) return rejections;
  const dump = withSearchPath(restore.open(), await restore.searchPath());
  const repeated = await runRestore(restore, onlyEntries(pgRestore(restore), again), dump, signal);
  const remaining = new Set(repeated.map(({ entry }) => entry));
  return rejections.filter((rejection) => !again.includes(rejection) || remaining.has(rejection.entry));
}

function pgRestore({ client, database, flags, superuser }: DumpRestore): Program {
  const { options } = client;
  return {
    path: client.pgRestore,
    // Verbose: it names the entry before each error.
    args: [
      '--format=custom',
      '--verbose',
      '--no-password',
      ...flags,
      `--dbname=${conninfo(options, database)}`,
    ],
    options,
    // Data is as it was captured, and no event trigger of the database has a say in how it comes back.
    settings: superuser ? { session_replication_role: 'replica', lc_messages: 'C' } : {},
  };
}

/** The list is a here-document: the program may run in a container, and leaves no file behind. */
function onlyEntries(program: Program, entries: readonly Rejection[]): Program {
  const list = entries.map(({ entry }) => `${entry};`).join('\n');
  const script = `exec "$@" --use-list=/dev/fd/3 3<<LIST\n${list}\nLIST`;
  return { ...program, path: 'sh', args: ['-c', script, 'sh', program.path, ...program.args] };
}

async function runRestore(
  { client }: DumpRestore,
  program: Program,
  dump: Bytes,
  signal: AbortSignal,
): Promise<readonly Rejection[]> {
  const reader = new RestoreReportReader();
  try {
    await feedProgram({ ...program, onStderr: (bytes) => reader.take(bytes) }, dump, signal);
    return [];
  } catch (error) {
    if (!(error instanceof TarsError) || error.code !== 'subprocess') throw error;
    const { rejections, complete } = reader.report();
    if (complete) return rejections;
    throw new TarsError('subprocess', `${client.pgRestore} failed: ${reader.lastError ?? error.message}`, {
      cause: error,
    });
  }
}

const emptyPath = "SELECT pg_catalog.set_config('search_path', '', false);\n";
const headLimitBytes = 1 << 20;

/**
 * The same dump with another search_path to begin with. It is a text in the table of contents, which is first in the
 * file (PostgreSQL source, pg_backup_archiver.c: WriteStr, WriteInt). Only for a program that reads the dump from a
 * pipe: positions in it are no longer right.
 */
async function* withSearchPath(dump: Bytes, path: string): Bytes {
  const wanted = archivedText(emptyPath);
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of dump) {
    if (head === undefined) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    const at = head.indexOf(wanted);
    if (at < 0 && head.length < headLimitBytes) continue;
    yield at < 0 ? head : replaced(head, at, wanted.length, path);
    head = undefined;
  }
  if (head !== undefined) yield head;
}

function replaced(head: Buffer, at: number, lengthBytes: number, path: string): Buffer {
  const statement = archivedText(`SELECT pg_catalog.set_config('search_path', ${literal(path)}, false);\n`);
  return Buffer.concat([head.subarray(0, at), statement, head.subarray(at + lengthBytes)]);
}

/** A sign, the length as four bytes, the lowest first, and the text. */
function archivedText(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(5);
  length.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([length, bytes]);
}
