import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { signalChild } from '../disk/start-program.ts';
import { throwIfAborted } from '../model/abort.ts';
import { ServiceUnavailableError } from '../model/errors.ts';
import { taskArguments, type ScheduledTask } from '../model/schedule.ts';

/** What a task says: passed on as it comes, or only the end of it, and only when it did not go well. */
type TaskOutput = 'all' | 'failures';

/** Of a quiet task that failed, so much is shown. */
const tailBytesMax = 64 * 1024;

/**
 * Runs tasks as `command` with their arguments, each in a session of its own: a signal to our terminal or process
 * group reaches only us, who passes on one, and our own sudden end leaves a backup to finish.
 */
export function createTaskRunner(
  [program = '', ...args]: readonly string[],
  output: TaskOutput,
): (task: ScheduledTask, signal: AbortSignal) => Promise<number | undefined> {
  return async (task, signal) => {
    throwIfAborted(signal);
    const stdio = output === 'all' ? 'inherit' : 'pipe';
    const child = spawn(program, [...args, ...taskArguments[task]], {
      stdio: ['ignore', stdio, stdio],
      detached: true,
    });
    const tail = new Tail([child.stdout, child.stderr]);
    const stop = (): void => void signalChild(child);
    signal.addEventListener('abort', stop);
    try {
      const [exitCode] = (await once(child, 'close')) as [number | null];
      if (exitCode !== 0) process.stderr.write(tail.bytes());
      return exitCode ?? undefined;
    } catch (cause) {
      throw new ServiceUnavailableError(`Cannot start ${program}`, { cause });
    } finally {
      signal.removeEventListener('abort', stop);
    }
  };
}

/** The last bytes of some streams, as they came. */
class Tail {
  readonly #chunks: Buffer[] = [];
  #size = 0;

  constructor(streams: readonly (Readable | null)[]) {
    for (const stream of streams) stream?.on('data', (chunk: Buffer) => this.#add(chunk));
  }

  #add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    while (this.#size - (this.#chunks[0]?.length ?? 0) >= tailBytesMax) {
      this.#size -= this.#chunks.shift()?.length ?? 0;
    }
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}
