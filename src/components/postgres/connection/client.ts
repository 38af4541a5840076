import { startProgram } from '../../../disk/start-program.ts';
import { readdir, readlink } from 'node:fs/promises';
import { delimiter, dirname, join, posix } from 'node:path';
import { throwIfAborted } from '../../../model/abort.ts';
import { TarsError } from '../../../model/errors.ts';
import type { ServerContainer } from '../../../ports/store-place.ts';
import { addressOf, type PostgresOptions } from './options.ts';

/** A set of PostgreSQL client programs that fits a server. */
export interface Client {
  readonly major: number;
  readonly pgDump: string;
  readonly pgDumpall: string;
  readonly pgRestore: string;
  /** How its programs run and reach the server. */
  readonly options: PostgresOptions;
}

/** Where Debian's packages put each major version. */
const debianBase = '/usr/lib/postgresql';

/**
 * Finds client programs of at least `neededMajor`, and of exactly that major when there are any: pg_dump refuses
 * newer servers, and a newer pg_restore may use settings an older server does not know. Programs of this machine go
 * first, since they are twice as fast over TCP as through the Engine; then those in the server's own container.
 * @throws TarsError `unsupported-version` when there is none
 */
export async function findClient(
  options: PostgresOptions,
  neededMajor: number,
  signal: AbortSignal,
): Promise<Client> {
  const found: FoundPrograms[] = [];
  for (const directory of await candidateDirectories(options, neededMajor)) {
    const major = await clientMajor(join(directory, 'pg_dump'), signal);
    if (major === undefined) continue;
    if (major === neededMajor) return clientIn({ directory, major }, options);
    found.push({ directory, major });
  }
  const { container } = options;
  const within = container === undefined ? undefined : await findInside(container, neededMajor, signal);
  if (container !== undefined && within !== undefined) {
    return clientIn(within, { ...options, host: '127.0.0.1', port: container.port, inside: container });
  }
  const newer = found
    .filter(({ major }) => major > neededMajor)
    .sort((a, b) => a.major - b.major)
    .at(0);
  if (newer !== undefined) return clientIn(newer, options);
  throw tooOld(options, neededMajor, found);
}

interface FoundPrograms {
  readonly directory: string;
  readonly major: number;
}

function clientIn({ directory, major }: FoundPrograms, options: PostgresOptions): Client {
  return {
    major,
    pgDump: posix.join(directory, 'pg_dump'),
    pgDumpall: posix.join(directory, 'pg_dumpall'),
    pgRestore: posix.join(directory, 'pg_restore'),
    options,
  };
}

/** Prints directory and version of each pg_dump, those of the PATH first. */
const listPrograms = `IFS=:
for directory in $PATH "$@"; do
  if [ -x "$directory/pg_dump" ]; then echo "$directory $("$directory/pg_dump" --version 2>/dev/null)"; fi
done`;

/** The programs in the server's container that fit best; undefined when none does. */
async function findInside(
  { runner }: ServerContainer,
  neededMajor: number,
  signal: AbortSignal,
): Promise<FoundPrograms | undefined> {
  const call = {
    path: 'sh',
    args: ['-c', listPrograms, 'sh', join(debianBase, String(neededMajor), 'bin')],
    environment: {},
  };
  const pieces: Uint8Array[] = [];
  try {
    for await (const piece of runner.output(call, signal)) pieces.push(piece);
  } catch (error) {
    // An image without a shell, or one with no programs to find: the programs of this machine remain.
    if (error instanceof TarsError && error.code === 'subprocess') return undefined;
    throw error;
  }
  return Buffer.concat(pieces)
    .toString()
    .split('\n')
    .flatMap((line) => {
      const [, directory, major] = /^(\/.*) pg_dump \(PostgreSQL\) (\d+)/.exec(line) ?? [];
      return directory === undefined ? [] : [{ directory, major: Number(major) }];
    })
    .filter(({ major }) => major >= neededMajor)
    .sort((a, b) => a.major - b.major)
    .at(0);
}

async function candidateDirectories(options: PostgresOptions, major: number): Promise<string[]> {
  if (options.clientBinDir !== undefined) return [options.clientBinDir];
  const packaged = (await readdir(debianBase).catch(() => []))
    .filter((name) => /^\d+$/.test(name))
    .map((name) => join(debianBase, name, 'bin'));
  const server =
    options.serverPid === undefined
      ? undefined
      : await readlink(`/proc/${options.serverPid}/exe`).catch(() => undefined);
  const onPath = (process.env['PATH'] ?? '').split(delimiter).filter((directory) => directory !== '');
  return [
    ...new Set([
      join(debianBase, String(major), 'bin'),
      ...onPath,
      ...(server === undefined ? [] : [dirname(server)]),
      ...packaged,
    ]),
  ];
}

/** The major version a program reports, or undefined when it is none. Majors before 10 count as 9. */
async function clientMajor(program: string, signal: AbortSignal): Promise<number | undefined> {
  try {
    const { stdout } = await startProgram(program, ['--version'], { timeout: 10_000 }, signal);
    const major = /\(PostgreSQL\) (\d+)/.exec(stdout)?.[1];
    return major === undefined ? undefined : Number(major);
  } catch (error) {
    throwIfAborted(signal);
    if (error instanceof Error) return undefined;
    throw error;
  }
}

function tooOld(options: PostgresOptions, neededMajor: number, found: readonly FoundPrograms[]): TarsError {
  const newest = [...found].sort((a, b) => b.major - a.major).at(0);
  const what =
    newest === undefined
      ? 'no pg_dump was found here'
      : `the newest pg_dump here is version ${newest.major} (${newest.directory})`;
  return new TarsError(
    'unsupported-version',
    `PostgreSQL at ${addressOf(options)} needs client programs of version ${neededMajor} or newer, and ${what}`,
    {
      hint: `Install them (Debian, Ubuntu: apt-get install postgresql-client-${neededMajor}), or name their directory as client_bin_dir in tars.yaml.`,
      context: { neededMajor, ...(newest === undefined ? {} : { foundMajor: newest.major }) },
    },
  );
}
