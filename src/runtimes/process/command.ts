import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openScratch } from '../../disk/run-scratch.ts';
import { signalChild } from '../../disk/start-program.ts';
import { throwIfAborted } from '../../model/abort.ts';
import { messageOf, TarsError } from '../../model/errors.ts';
import { shellWord } from '../../model/shell-word.ts';
import { childEnvironment } from '../child-environment.ts';

const tailBytes = 2000;

/** What became of a command that has ended. */
interface CommandResult {
  /** Undefined when the program was ended by a signal. */
  readonly exitCode: number | undefined;
  /** The last part of its output on stdout and stderr. */
  readonly output: string;
}

/** How long a command may take, and what interrupts it. */
export interface CommandLimits {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/**
 * Runs a command of the configuration to its end. Its output goes to a file, not a pipe: a command that leaves a
 * daemon behind hands its stdout on, and waiting for a pipe's end would mean waiting for the daemon's. Interrupted
 * or late, it gets a SIGTERM and is not waited for; it is never killed, since it may turn out to be the store.
 * @throws TarsError `subprocess` when it cannot be started, `timeout` when it does not end
 * @throws InterruptedError when the signal aborts
 */
export async function runCommand(argv: readonly string[], limits: CommandLimits): Promise<CommandResult> {
  await using scratch = await openScratch(tmpdir(), 'command');
  await using file = await open(join(scratch.path, 'output'), 'wx+', 0o600);
  const exitCode = await exitOf(argv, file.fd, limits);
  const { size } = await file.stat();
  const start = Math.max(0, size - tailBytes);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(tailBytes), 0, tailBytes, start);
  return { exitCode, output: buffer.toString('utf8', 0, bytesRead).trim() };
}

async function exitOf(
  argv: readonly string[],
  outputFd: number,
  { timeoutMs, signal }: CommandLimits,
): Promise<number | undefined> {
  if (signal !== undefined) throwIfAborted(signal);
  const timeout = AbortSignal.timeout(timeoutMs);
  const [program = '', ...args] = argv;
  // Not execa: it waits for a process that it has told to end, and kills it in the end.
  const child = spawn(program, args, {
    stdio: ['ignore', outputFd, outputFd],
    env: childEnvironment(),
  });
  try {
    const ended = once(child, 'exit', {
      signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
    });
    const [exitCode] = (await ended) as [number | null];
    return exitCode ?? undefined;
  } catch (cause) {
    signalChild(child);
    child.unref();
    if (signal !== undefined) throwIfAborted(signal, cause);
    if (timeout.aborted) {
      throw new TarsError('timeout', `${commandName(argv)} did not end within ${timeoutMs} ms`, {
        hint: 'Run it by hand to see why, or raise its timeout in tars.yaml.',
        cause,
      });
    }
    throw new TarsError('subprocess', `Cannot run ${commandName(argv)}: ${messageOf(cause)}`, {
      hint: 'Correct the command in tars.yaml.',
      cause,
    });
  }
}

/** Runs a command that must succeed. @throws TarsError `subprocess` with the end of its output */
export async function requireCommand(
  argv: readonly string[],
  purpose: string,
  limits: CommandLimits,
): Promise<void> {
  const { exitCode, output } = await runCommand(argv, limits);
  if (exitCode === 0) return;
  const how = exitCode === undefined ? 'was ended by a signal' : `ended with ${exitCode}`;
  throw new TarsError(
    'subprocess',
    `Cannot ${purpose}: ${commandName(argv)} ${how}${output && `: ${output}`}`,
    {
      hint: handHint(argv, purpose),
    },
  );
}

/** What tars itself made up names its unit; of the operator's own commands, tars.yaml has the arguments. */
function handHint([program, , unit]: readonly string[], purpose: string): string {
  if (program === 'systemctl' && unit !== undefined)
    return `Read why with: systemctl status ${shellWord(unit)}, and: journalctl --unit ${shellWord(unit)}`;
  return `To see its output, run the ${program ?? ''} command by hand, as the user who runs tars. It is under services in tars.yaml, to ${purpose}.`;
}

/** Arguments are left out of messages: they may hold what nobody should read there. */
const commandName = (argv: readonly string[]): string => argv[0] ?? 'An empty command';
