import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { startProgram } from '../../../disk/start-program.ts';
import { TarsError } from '../../../model/errors.ts';

const answerSchema = z.object({
  state: z.enum(['ready', 'locked', 'busy', 'free', 'released', 'expired', 'error']),
  message: z.string().optional(),
  /** The file itself is at fault, not the rights to it. */
  damaged: z.boolean().optional(),
});
type Answer = z.infer<typeof answerSchema>;

/** What to do where the lock is refused. */
export const lockingNeeds =
  'Locking needs write access to the file and its directory; run tars as root or as its owner.';
const damagedHint =
  'The file is damaged. Stop Chroma, copy its directory to a safe place, then restore an earlier snapshot.';

const entryFile = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './lock-holder.ts' : './lock-holder.js', import.meta.url),
);

function spawn(path: string) {
  return startProgram(process.execPath, ['--no-warnings', entryFile, path], {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'ignore',
    reject: false,
    buffer: false,
    // Nothing of our environment concerns it, least of all the secrets.
    extendEnv: false,
    env: {},
  });
}

/** The lock of another process on `chroma.sqlite3`, taken and given back on command (see lock-holder.ts). */
export class LockProcess implements AsyncDisposable {
  readonly #child: ReturnType<typeof spawn>;
  readonly #answers: AsyncIterator<string>;
  readonly #path: string;
  #ended = false;

  /**
   * Starts the process and waits until it has opened the file.
   * @throws TarsError `capture-failed` when it cannot
   */
  static async start(path: string): Promise<LockProcess> {
    const started = new LockProcess(path);
    try {
      await started.#expect('ready');
      return started;
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(path: string) {
    this.#path = path;
    this.#child = spawn(path);
    // A write after its death must not become an uncaught error; the missing answer tells.
    this.#child.stdin.on('error', () => undefined);
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** True once it is known that the process is gone, and its lock with it. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Takes the write lock: from then on nobody writes, and reads go on.
   * @param timeoutMs how long to wait for a writer to finish
   * @param holdMaxMs after which the process lets go by itself, should we hang
   * @returns false when a writer held it for all of `timeoutMs`
   */
  async lock(timeoutMs: number, holdMaxMs: number): Promise<boolean> {
    const { state } = await this.#ask(`lock ${timeoutMs} ${holdMaxMs}`, ['locked', 'busy']);
    return state === 'locked';
  }

  /** @returns false when the lock had been lost before, be it with its process */
  async release(): Promise<boolean> {
    try {
      const { state } = await this.#ask('release', ['released', 'expired']);
      return state === 'released';
    } catch (error) {
      if (this.#ended) return false;
      throw error;
    }
  }

  /** True when another connection is refused the write lock right now. */
  async isLockedByOthers(): Promise<boolean> {
    const { state } = await this.#ask('probe', ['busy', 'free']);
    return state === 'busy';
  }

  async #ask(command: string, expected: readonly Answer['state'][]): Promise<Answer> {
    this.#child.stdin.write(`${command}\n`);
    return this.#expect(...expected);
  }

  async #expect(...expected: readonly Answer['state'][]): Promise<Answer> {
    const line = await this.#answers.next();
    if (line.done === true) {
      this.#ended = true;
      throw new TarsError('capture-failed', `The process that locks ${this.#path} ended`, {
        hint: 'Run the backup again; if it happens every time, look for an out-of-memory killer.',
      });
    }
    const answer = answerSchema.parse(JSON.parse(line.value));
    if (expected.includes(answer.state)) return answer;
    throw new TarsError('capture-failed', `Cannot lock ${this.#path}: ${answer.message ?? answer.state}`, {
      hint: answer.damaged === true ? damagedHint : lockingNeeds,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    await this.#child;
  }
}
