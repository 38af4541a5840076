import { CommanderError } from 'commander';
import { exitCodes } from './session/exit-codes.ts';
import { createProgram } from './program.ts';
import { failureLine } from './render/json.ts';

/** Runs the command line of this process and sets its exit code. */
export async function runCommandLine(): Promise<void> {
  surviveClosedOutput();
  let exitCode: number = exitCodes.success;
  const program = createProgram({
    env: process.env,
    stdout: process.stdout,
    stderr: process.stderr,
    stdin: process.stdin,
    signal: interruption(),
    json: wantsJson(),
    setExitCode: (code) => {
      exitCode = code;
    },
  });
  try {
    await program.parseAsync(process.argv);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    exitCode = error.exitCode;
  }
  // An output that failed has spoken already.
  process.exitCode ??= exitCode;
}

/** Known before the arguments are parsed, for what goes wrong there. */
const wantsJson = (): boolean => process.argv.includes('--json');

/** The first signal stops cleanly (writers resume, locks go); the second is the operator's last word. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(exitCodes.interrupted);
      controller.abort();
    });
  }
  return controller.signal;
}

/**
 * A reader that has gone (`| head`), a closed terminal or a full disk under a redirected output must not end a
 * backup or a restore half-way: the work goes on. What could not be written is an error, unless nobody reads it.
 */
function surviveClosedOutput(): void {
  process.stderr.on('error', () => undefined);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return;
    const message = `Cannot write the result to the standard output: ${error.message}`;
    const failure = { code: 'storage-failed', message, hint: 'The work itself is complete.' };
    process.stderr.write(wantsJson() ? failureLine(failure) : `[ERROR] ${message}\n`);
    process.exitCode = exitCodes.error;
  });
}
