import { execa, type Options } from 'execa';
import type { ChildProcess } from 'node:child_process';
import { throwIfAborted } from '../model/abort.ts';

/** Options of execa but for `cancelSignal`, see {@link startProgram}. */
export type ProgramOptions = Options & { readonly cancelSignal?: never };

/**
 * Starts a program of this machine, as execa does. When `signal` aborts, the program gets a SIGTERM, and with
 * `forceKillAfterDelay` a SIGKILL later; the result is then that of a program that a signal ended.
 *
 * The only way to start one, because execa's `cancelSignal` also signals a program that could not be started. Its
 * handle has no pid then, and until the next turn of the event loop Node passes to kill(2) whatever number lies in that
 * memory: seen were 0, which is the whole process group, and pids of others.
 * @throws TarsError `interrupted` when the signal has aborted already
 */
export function startProgram<ProgramOptionsType extends ProgramOptions>(
  file: string,
  args: readonly string[],
  options: ProgramOptionsType,
  signal?: AbortSignal,
) {
  if (signal !== undefined) throwIfAborted(signal);
  const child = execa(file, args, options);
  // One that could not be started has no pid, and emits no exit.
  if (signal === undefined || child.pid === undefined) return child;
  const stop = (): void => void signalChild(child);
  signal.addEventListener('abort', stop, { once: true });
  // Not when the promise settles: to wait for it there would make its rejection a handled one.
  const handle = child as unknown as ChildProcess;
  handle.once('exit', () => signal.removeEventListener('abort', stop));
  return child;
}

/** Sends a signal to a child process that was started and has not ended; false when there is none. */
export function signalChild(
  child: Pick<ChildProcess, 'pid' | 'kill'>,
  signal: NodeJS.Signals = 'SIGTERM',
): boolean {
  return child.pid !== undefined && child.kill(signal);
}
