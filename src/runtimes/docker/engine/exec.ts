import type { Duplex } from 'node:stream';
import { abortError, throwIfAborted } from '../../../model/abort.ts';
import { ErrorOutput } from '../../../model/error-output.ts';
import { TarsError, toTarsError } from '../../../model/errors.ts';
import type { Bytes } from '../../../ports/artifacts.ts';
import type { ProgramCall, ProgramRunner } from '../../../ports/programs.ts';
import { engineError, type Engine } from './engine.ts';
import { FrameReader, type Frame } from './frames.ts';

/** Header of a frame: stream, three zeros, length as u32BE (Engine API, "Attach to a container"). */
const stderrStream = 2;

/** A program to run in a running container. */
interface ContainerProgram {
  readonly containerId: string;
  readonly argv: readonly string[];
  /** Never visible in a process list. */
  readonly environment: Readonly<Record<string, string>>;
  readonly onStderr?: ProgramCall['onStderr'];
}

/** Runs programs in a running container. */
export function containerRunner(engine: Engine, containerId: string): ProgramRunner {
  const programOf = ({ path, args, environment, onStderr }: ProgramCall): ContainerProgram => ({
    ...{ containerId, environment, onStderr },
    argv: [path, ...args],
  });
  return {
    output: (call, signal) => containerOutput(engine, programOf(call), undefined, signal),
    async feed(call, input, signal) {
      for await (const _ of containerOutput(engine, programOf(call), input, signal));
    },
  };
}

/** Writes its own process id first, so that the program can be ended: closing its output does not do that. */
const announcingShell = ['sh', '-c', 'echo "$$"; exec "$@"', 'sh'];

/**
 * What the program writes, to its end, at the reader's pace. The iteration fails unless the program then exits
 * with 0. Left early or interrupted, the program is ended.
 * @param input goes to its stdin; also what a successful program did not read of it is read to its end
 * @throws the error of `input` when that fails; TarsError `subprocess` with the end of the program's stderr
 */
async function* containerOutput(
  engine: Engine,
  program: ContainerProgram,
  input: Bytes | undefined,
  signal: AbortSignal,
): Bytes {
  const name = program.argv[0] ?? '';
  const requireNoInterruption = (cause?: unknown): void => {
    throwIfAborted(signal, cause);
  };
  requireNoInterruption();
  const run = await start(engine, program, input !== undefined).catch((error: unknown) => {
    throw engineError(error, `Cannot run ${name} in the container`);
  });
  const output = new ProgramOutput(program.onStderr);
  // A program that has not said its process id could not be ended, and will say it at once.
  const interrupt = (): void => {
    if (output.announced) run.stream.destroy();
  };
  signal.addEventListener('abort', interrupt, { once: true });
  const feeding = input === undefined ? undefined : feed(input, run.stream);
  try {
    for await (const frame of frames(run.stream)) {
      const bytes = output.take(frame);
      if (output.announced) requireNoInterruption();
      if (bytes.length > 0) yield bytes;
    }
    output.ended = true;
  } catch (error) {
    requireNoInterruption(error);
    throw (await feeding)?.inputError ?? engineError(error, `Cannot run ${name} in the container`);
  } finally {
    signal.removeEventListener('abort', interrupt);
    run.stream.destroy();
    if (!output.ended) {
      await endProgram(engine, program.containerId, output.pid);
      void feeding?.then(({ rest }) => rest?.return?.());
    }
  }
  requireNoInterruption();
  const fed = await feeding;
  if (fed?.inputError !== undefined) throw fed.inputError;
  const { ExitCode: exitCode } = await run.exec.inspect().catch((error: unknown) => {
    throw engineError(error, `Cannot find out how ${name} ended in the container`);
  });
  if (exitCode !== 0) {
    await fed?.rest?.return?.();
    const said = output.stderr.toString() || `exit code ${exitCode ?? 'unknown'}`;
    throw new TarsError('subprocess', `${name} failed in the container: ${said}`);
  }
  if (fed?.rest !== undefined) await readToEnd(fed.rest, signal);
}

async function readToEnd(rest: AsyncIterator<Uint8Array>, signal: AbortSignal): Promise<void> {
  while ((await rest.next()).done !== true) {
    if (!signal.aborted) continue;
    await rest.return?.();
    throw abortError(signal);
  }
}

/** Tells the announced process id, the program's own output and the end of its stderr apart. */
class ProgramOutput {
  pid = '';
  readonly stderr = new ErrorOutput();
  ended = false;
  announced = false;
  readonly #onStderr: ProgramCall['onStderr'];

  constructor(onStderr: ProgramCall['onStderr']) {
    this.#onStderr = onStderr;
  }

  /** What of the frame the program wrote to its stdout. */
  take({ stream, bytes }: Frame): Buffer {
    if (stream === stderrStream) {
      this.#onStderr?.(bytes);
      this.stderr.add(bytes);
      return Buffer.alloc(0);
    }
    if (this.announced) return bytes;
    const end = bytes.indexOf('\n');
    this.pid += bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
    if (end < 0) return Buffer.alloc(0);
    this.announced = true;
    return bytes.subarray(end + 1);
  }
}

async function start(
  engine: Engine,
  { containerId, argv, environment }: ContainerProgram,
  hasInput: boolean,
) {
  const exec = await engine.getContainer(containerId).exec({
    Cmd: [...announcingShell, ...argv],
    Env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    AttachStdin: hasInput,
    AttachStdout: true,
    AttachStderr: true,
  });
  const stream: Duplex = await exec.start({ hijack: true, stdin: hasInput });
  return { exec, stream };
}

/** Takes a multiplexed stream apart, no faster than it is read. */
export async function* frames(multiplexed: AsyncIterable<Buffer>): AsyncGenerator<Frame, void> {
  const reader = new FrameReader();
  for await (const chunk of multiplexed) yield* reader.read(chunk);
  if (!reader.isComplete) throw new TarsError('subprocess', 'The Engine truncated the output of a program');
}

interface Fed {
  /** Why the input could not be read. */
  readonly inputError?: TarsError;
  /** What the program did not take of it. */
  readonly rest?: AsyncIterator<Uint8Array>;
}

/** Never rejects: which side failed matters to the caller, and when. */
async function feed(input: Bytes, stream: Duplex): Promise<Fed> {
  const iterator = input[Symbol.asyncIterator]();
  const next = async (): Promise<IteratorResult<Uint8Array> | TarsError> =>
    iterator.next().catch((error: unknown) => toTarsError(error, 'Cannot read the input of a program'));
  for (;;) {
    const result = await next();
    if (result instanceof TarsError) {
      stream.destroy();
      return { inputError: result };
    }
    if (result.done === true) break;
    try {
      await write(stream, result.value);
    } catch {
      return { rest: iterator };
    }
  }
  // Only the writing side ends; the answer is still to come.
  stream.end();
  return {};
}

function write(stream: Duplex, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(chunk, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

/** The Engine cannot signal one program of a container; another program in it can. */
async function endProgram(engine: Engine, containerId: string, pid: string): Promise<void> {
  if (!/^\d+$/.test(pid)) return;
  try {
    const exec = await engine
      .getContainer(containerId)
      .exec({ Cmd: ['sh', '-c', 'kill -TERM "$1" 2>/dev/null', 'sh', pid] });
    // An answer nobody reads would keep its connection, and this process with it.
    (await exec.start({ Detach: true })).resume();
  } catch {
    // The container is gone, and the program with it.
  }
}
