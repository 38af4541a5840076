import { ExecaError } from 'execa';
import { signalChild, startProgram } from '../../../disk/start-program.ts';
import type { Readable, Writable } from 'node:stream';
import { throwIfAborted } from '../../../model/abort.ts';
import { ErrorOutput } from '../../../model/error-output.ts';
import { TarsError, toTarsError } from '../../../model/errors.ts';
import type { Bytes } from '../../../ports/artifacts.ts';
import type { ProgramCall, ProgramRunner } from '../../../ports/programs.ts';
import { conninfoValue } from '../names.ts';
import { startupSettings, type PostgresOptions } from './options.ts';
import { openControlSession } from './session.ts';
import { tlsEnvironment } from './tls.ts';

/** Variables of libpq that say how to reach a server safely, not which one. Their paths are of this machine. */
const passedOn = ['PATH', 'HOME', 'PGPASSFILE', 'PGSSLMODE', 'PGSSLROOTCERT', 'PGSSLCERT', 'PGSSLKEY'];

/** One run of a PostgreSQL client program against one database. */
export interface Program {
  readonly path: string;
  readonly args: readonly string[];
  readonly options: PostgresOptions;
  /** Beside those every connection starts with. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Sees everything the program writes to its stderr, as it comes. */
  readonly onStderr?: (bytes: Uint8Array) => void;
}

/** The database as a connection string, so that a name with `=` in it is not taken for one. */
export function conninfo(options: PostgresOptions, database: string): string {
  return [
    ['host', options.host],
    ['port', String(options.port)],
    ['user', options.user],
    ['dbname', database],
  ]
    .map(([key, value]) => `${key}=${conninfoValue(value ?? '')}`)
    .join(' ');
}

// The password travels in the environment: argv is readable by every user of the machine.
function environment({ options, settings }: Program): Record<string, string> {
  return {
    // Beside the server, files of this machine are not there, and nothing goes over a network.
    ...(options.inside === undefined ? tlsEnvironment(options.tls) : {}),
    ...(options.password === undefined ? {} : { PGPASSWORD: options.password }),
    PGAPPNAME: 'tars',
    PGCONNECT_TIMEOUT: '10',
    // Without waiting for the disk at each commit a restore of many small tables is faster; the swap's own commit
    // makes all of it durable.
    PGOPTIONS: startupSettings({ synchronous_commit: 'off', ...settings }),
    LC_ALL: 'C',
  };
}

function inheritedEnvironment(): Record<string, string> {
  const kept = passedOn.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(kept);
}

function start(
  { path, args, environment: own, onStderr }: ProgramCall,
  stdin: 'ignore' | 'pipe',
  signal: AbortSignal,
) {
  const options = {
    env: { ...inheritedEnvironment(), ...own },
    extendEnv: false,
    stdin,
    stdout: 'pipe',
    stderr: 'pipe',
    buffer: false,
    forceKillAfterDelay: 2000,
  } as const;
  const child = startProgram(path, args, options, signal);
  const stderr = tailOf(child.stderr, onStderr);
  // Awaited later; until then a failure must not count as unhandled.
  const ended = child.then(
    () => undefined,
    (error: unknown) => error,
  );
  return {
    child,
    /** @throws TarsError when the program failed, with the end of its stderr */
    finish: async (): Promise<void> => {
      const error = await ended;
      if (error === undefined) return;
      throwIfAborted(signal, error);
      const said = await stderr;
      const status = error instanceof ExecaError ? error.shortMessage.split('\n')[0] : undefined;
      throw new TarsError('subprocess', `${path} failed: ${said === '' ? (status ?? 'unknown') : said}`, {
        context: { program: path },
      });
    },
  };
}

async function tailOf(stream: Readable, onChunk: ProgramCall['onStderr']): Promise<string> {
  const tail = new ErrorOutput();
  try {
    for await (const chunk of stream) {
      onChunk?.(chunk as Buffer);
      tail.add(chunk as Buffer);
    }
  } catch {
    // The program was killed; what it said so far is what there is.
  }
  return tail.toString();
}

const callOf = (program: Program): ProgramCall => ({
  path: program.path,
  args: program.args,
  environment: environment(program),
  ...(program.onStderr === undefined ? {} : { onStderr: program.onStderr }),
});

/** What the program writes, see {@link ProgramRunner.output}; in the server's container where its options say so. */
export async function* programOutput(program: Program, signal: AbortSignal): Bytes {
  await requireServer(program.options, signal);
  yield* (program.options.inside?.runner ?? here).output(callOf(program), signal);
}

/** Feeds the program, see {@link ProgramRunner.feed}; in the server's container where its options say so. */
export async function feedProgram(program: Program, input: Bytes, signal: AbortSignal): Promise<void> {
  await requireServer(program.options, signal);
  await (program.options.inside?.runner ?? here).feed(callOf(program), input, signal);
}

/** A program makes a connection of its own: right before it, what answers there is looked at once more. */
async function requireServer(options: PostgresOptions, signal: AbortSignal): Promise<void> {
  if (options.proof === undefined || options.inside !== undefined) return;
  await using _ = await openControlSession(options, signal);
}

/** Programs of this machine. */
const here: ProgramRunner = { output: localOutput, feed: localFeed };

async function* localOutput(program: ProgramCall, signal: AbortSignal): Bytes {
  const { child, finish } = start(program, 'ignore', signal);
  try {
    for await (const chunk of child.stdout) yield chunk as Buffer;
  } catch (error) {
    await finish();
    throw error;
  } finally {
    // Left early: nobody reads on, so the program has no reason to live.
    if (child.exitCode === null && !child.stdout.readableEnded) signalChild(child);
  }
  await finish();
}

async function localFeed(program: ProgramCall, input: Bytes, signal: AbortSignal): Promise<void> {
  const { child, finish } = start(program, 'pipe', signal);
  child.stdout.resume();
  const stdin = child.stdin as Writable;
  // A program that gave up closes its stdin; why it did is in its own report.
  stdin.on('error', () => undefined);
  try {
    for await (const chunk of input) {
      if (stdin.destroyed) await finish();
      else if (!stdin.write(chunk)) await drained(stdin);
    }
  } catch (error) {
    signalChild(child);
    await finish().catch(() => undefined);
    throw toTarsError(error, `Cannot read the input of ${program.path}`);
  }
  stdin.end();
  await finish();
}

/** Waits until `stream` takes more, or never will. */
async function drained(stream: Writable): Promise<void> {
  if (stream.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}
