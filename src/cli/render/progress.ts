import stringWidth from 'string-width';
import wrapAnsi from 'wrap-ansi';
import { formatBytes, formatMs } from './units.ts';
import { visible } from './visible.ts';

/** The live line is drawn this often; without a terminal a line is written this seldom. */
const redrawMs = 200;
const plainIntervalMs = 10_000;
/** What took longer is worth a line when it is done. */
const quietMs = 2000;

interface RunningTask {
  readonly startedMs: number;
  readonly totalBytes: number | undefined;
  doneBytes: number;
  saidMs: number;
}

/** Where progress is shown, and what it is timed by. */
interface ProgressOptions {
  readonly stderr: NodeJS.WriteStream;
  /** It is a terminal that can take a line away again. */
  readonly isLive: boolean;
  readonly monotonicMs: () => number;
  /** Writes a whole line. */
  readonly say: (label: 'info' | 'ok', text: string) => void;
}

/**
 * Running tasks: one live line on a terminal, a plain line now and then elsewhere. It is drawn by the clock and not
 * by progress, so that a task that is silent for long is seen to run.
 */
export class ProgressDisplay implements Disposable {
  readonly #options: ProgressOptions;
  readonly #tasks = new Map<string, RunningTask>();
  #timer: NodeJS.Timeout | undefined;
  #drawn = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  start(task: string, totalBytes: number | undefined): void {
    const nowMs = this.#options.monotonicMs();
    this.#tasks.set(task, { startedMs: nowMs, totalBytes, doneBytes: 0, saidMs: nowMs });
    this.#timer ??= setInterval(() => this.#show(), redrawMs).unref();
  }

  advanceTo(task: string, doneBytes: number): void {
    const running = this.#tasks.get(task);
    if (running !== undefined) running.doneBytes = doneBytes;
  }

  finish(task: string, outcome: 'ok' | 'failed'): void {
    const running = this.#tasks.get(task);
    if (running === undefined) return;
    this.#tasks.delete(task);
    if (this.#tasks.size === 0) this[Symbol.dispose]();
    const elapsedMs = this.#options.monotonicMs() - running.startedMs;
    if (outcome === 'failed' || elapsedMs <= quietMs) return;
    const bytes = running.doneBytes === 0 ? '' : ` ${formatBytes(running.doneBytes)}`;
    this.#options.say('ok', `${task}${bytes} in ${formatMs(elapsedMs)}`);
  }

  /** Takes the live line away, so that something else may be written. */
  erase(): void {
    if (this.#drawn) this.#options.stderr.write('\r\u001b[K');
    this.#drawn = false;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.erase();
  }

  #show(): void {
    const { stderr, isLive, monotonicMs, say } = this.#options;
    const nowMs = monotonicMs();
    if (isLive) {
      const line = [...this.#tasks].map(([name, task]) => describe(name, task, nowMs)).join(' · ');
      this.erase();
      stderr.write(fit(visible(line), (stderr.columns || 80) - 1));
      this.#drawn = true;
      return;
    }
    for (const [name, task] of this.#tasks) {
      if (nowMs - task.saidMs < plainIntervalMs) continue;
      task.saidMs = nowMs;
      say('info', describe(name, task, nowMs));
    }
  }
}

function describe(name: string, { startedMs, doneBytes, totalBytes }: RunningTask, nowMs: number): string {
  const elapsed = `${Math.floor((nowMs - startedMs) / 1000)} s`;
  if (doneBytes === 0) return `${name} ${elapsed}`;
  if (totalBytes === undefined || totalBytes === 0) return `${name} ${formatBytes(doneBytes)}, ${elapsed}`;
  const percent = Math.min(100, Math.floor((doneBytes / totalBytes) * 100));
  return `${name} ${percent}% of ${formatBytes(totalBytes)}, ${elapsed}`;
}

/** A line that wrapped could not be erased. */
function fit(line: string, columns: number): string {
  if (stringWidth(line) <= columns) return line;
  const [first = ''] = wrapAnsi(line, Math.max(1, columns - 1), { hard: true, wordWrap: false }).split('\n');
  return `${first}…`;
}
