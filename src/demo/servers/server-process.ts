import { execa } from 'execa';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { throwIfAborted } from '../../model/abort.ts';
import { signalChild } from '../../disk/start-program.ts';
import { hasErrno, ServiceUnavailableError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { waitUntil } from './common.ts';

/** How a process is known, whoever started it. */
interface KnownProcess {
  /** For messages, such as `Chroma on port 8000`. */
  readonly name: string;
  readonly pidFile: string;
  /** One of these is in its command line and in no other's: pids are used again. */
  readonly marks: readonly string[];
}

/** A server on this machine's loopback. */
export interface ServerProcess extends KnownProcess {
  readonly port: number;
}

const logTailChars = 1000;
const endTimeoutMs = 30_000;

/** The pid of what runs as `known` now; undefined when nothing does. */
export async function runningPid(known: KnownProcess): Promise<number | undefined> {
  const text = await readFile(known.pidFile, 'latin1').catch(() => '');
  const pid = Number(/^\s*(\d+)/.exec(text)?.[1] ?? 0);
  return pid > 0 && (await isRunning(pid, known)) ? pid : undefined;
}

/** False for one that is ending too: it has no command line any more. */
async function isRunning(pid: number, { marks }: KnownProcess): Promise<boolean> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '');
  return marks.some((mark) => commandLine.includes(mark));
}

export interface Launch {
  readonly argv: readonly string[];
  /** Takes its output, appended. */
  readonly logFile: string;
  /** Whether it answers; its process is known to listen by then. */
  readonly probe: (signal: AbortSignal) => Promise<void>;
}

/**
 * Runs a server as a child of this process and waits until it answers. A failed start leaves no process.
 * @throws ServiceUnavailableError with its last output, at once when it ends
 */
export async function launchServer(
  server: ServerProcess,
  { argv, logFile, probe }: Launch,
  ctx: Pick<OperationContext, 'clock' | 'signal'>,
): Promise<void> {
  const [program = '', ...args] = argv;
  const output = { file: logFile, append: true };
  const child = execa(program, args, {
    stdin: 'ignore',
    stdout: output,
    stderr: output,
    buffer: false,
    reject: false,
  });
  const ended = new AbortController();
  void child.then(() => ended.abort());
  const signal = AbortSignal.any([ctx.signal, ended.signal]);
  try {
    const ready = async (): Promise<void> => {
      await requireListening(server);
      await probe(signal);
    };
    await waitUntil(`${server.name} answers`, ready, { clock: ctx.clock, signal });
  } catch (cause) {
    const died = ended.signal.aborted;
    signalChild(child, 'SIGKILL');
    const { exitCode, signal: killedBy } = await child;
    throwIfAborted(ctx.signal);
    const how = died ? `ended (${killedBy ?? exitCode ?? 'not started'})` : 'does not answer';
    const said = (await readFile(logFile, 'utf8')).slice(-logTailChars).trim();
    throw new ServiceUnavailableError(`Cannot start ${server.name}: it ${how}${said && `: ${said}`}`, {
      cause,
    });
  }
}

/** Somebody else's server on the port must not be taken for ours. */
async function requireListening(server: ServerProcess): Promise<void> {
  const pid = await runningPid(server);
  if (pid === undefined) throw new Error('It has written no pid file yet');
  const table = await readFile('/proc/net/tcp', 'latin1');
  // proc_pid_net(5): "sl local_address rem_address st … inode", with 0A for LISTEN.
  const local = `0100007F:${server.port.toString(16).toUpperCase().padStart(4, '0')}`;
  const sockets = table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1] === local && fields[3] === '0A')
    .map((fields) => `socket:[${fields[9] ?? ''}]`);
  const open = await readdir(`/proc/${pid}/fd`);
  const links = await Promise.all(open.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
  if (!links.some((link) => sockets.includes(link))) throw new Error('It does not listen yet');
}

/**
 * Ends what runs as `known` now with SIGTERM and waits for its end.
 * @throws ServiceUnavailableError when it had to be killed in the end
 */
export async function endProcess(
  known: KnownProcess,
  clock: OperationContext['clock'],
  timeoutMs = endTimeoutMs,
): Promise<void> {
  const pid = await runningPid(known);
  if (pid === undefined) return;
  const started = await startTime(pid);
  const gone = async (): Promise<void> => {
    const now = await startTime(pid);
    if (now !== undefined && now === started) throw new Error(`Process ${pid} runs`);
  };
  // Not interrupted: who stops a server is mostly interrupted already.
  const ctx = { clock, signal: new AbortController().signal };
  signalTo(pid, 'SIGTERM');
  // A paused process gets to see it.
  signalTo(pid, 'SIGCONT');
  try {
    await waitUntil(`${known.name} ends`, gone, ctx, timeoutMs);
  } catch (cause) {
    signalTo(pid, 'SIGKILL');
    await waitUntil(`${known.name} ends when killed`, gone, ctx, timeoutMs);
    throw new ServiceUnavailableError(
      `${known.name} had to be killed: it did not end within ${timeoutMs} ms`,
      {
        cause,
      },
    );
  }
}

/**
 * When a process started, in ticks; undefined when there is none, or only a zombie. A zombie with further threads is
 * about to end, and holds its files and ports until the last of them has.
 */
async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] !== 'Z') return fields[19];
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  return threads.length > 1 ? fields[19] : undefined;
}

function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!hasErrno(error, 'ESRCH')) throw error;
  }
}
