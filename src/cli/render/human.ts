import { createInterface } from 'node:readline/promises';
import type { TarsError } from '../../model/errors.ts';
import type { OperationEvent } from '../../model/events.ts';
import type { Audience } from './audience.ts';
import { formatBytes } from './units.ts';

/** A live line is redrawn this often at most; without a terminal a line is written this seldom. */
const redrawMs = 100;
const plainIntervalMs = 10_000;
const quietMs = 2_000;

interface RunningTask {
  readonly startedMs: number;
  doneBytes: number;
  totalBytes: number | undefined;
  saidMs: number;
}

export interface HumanOptions {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  readonly stdin: NodeJS.ReadStream;
  readonly color: boolean;
  readonly verbose: boolean;
  readonly monotonicMs: () => number;
}

/** Results to stdout; messages and progress to stderr, live on a terminal and plain lines elsewhere. */
export function humanAudience({
  stdout,
  stderr,
  stdin,
  color,
  verbose,
  monotonicMs,
}: HumanOptions): Audience {
  const tasks = new Map<string, RunningTask>();
  let drawn = false;
  let drawnMs = 0;
  const paint = (code: number, text: string): string => (color ? `\u001b[${code}m${text}\u001b[0m` : text);
  const labels = {
    debug: paint(2, '[DEBUG]'),
    info: paint(36, '[INFO]'),
    warn: paint(33, '[WARN]'),
    error: paint(31, '[ERROR]'),
    ok: paint(32, '[OK]'),
  };
  const erase = (): void => {
    if (drawn) stderr.write('\r\u001b[K');
    drawn = false;
  };
  const say = (label: keyof typeof labels, text: string): void => {
    erase();
    stderr.write(`${labels[label]} ${text}\n`);
  };
  const describe = (name: string, { doneBytes, totalBytes }: RunningTask): string =>
    totalBytes === undefined || totalBytes === 0
      ? `${name} ${formatBytes(doneBytes)}`
      : `${name} ${Math.min(100, Math.floor((doneBytes / totalBytes) * 100))}% of ${formatBytes(totalBytes)}`;
  const showProgress = (name: string, task: RunningTask): void => {
    const nowMs = monotonicMs();
    if (stderr.isTTY) {
      if (nowMs - drawnMs < redrawMs || nowMs - task.startedMs < redrawMs) return;
      drawnMs = nowMs;
      const line = [...tasks].map(([task_, state]) => describe(task_, state)).join(' · ');
      erase();
      stderr.write(line.slice(0, Math.max(20, stderr.columns - 1)));
      drawn = true;
    } else if (nowMs - task.saidMs >= plainIntervalMs) {
      task.saidMs = nowMs;
      say('info', describe(name, task));
    }
  };

  const onEvent = (event: OperationEvent): void => {
    switch (event.type) {
      case 'message':
        if (event.level !== 'debug' || verbose) say(event.level, event.message);
        return;
      case 'task-started': {
        const nowMs = monotonicMs();
        tasks.set(event.task, {
          startedMs: nowMs,
          doneBytes: 0,
          totalBytes: event.totalBytes,
          saidMs: nowMs,
        });
        return;
      }
      case 'task-progress': {
        const task = tasks.get(event.task);
        if (task === undefined) return;
        task.doneBytes = event.doneBytes;
        showProgress(event.task, task);
        return;
      }
      case 'task-finished': {
        const task = tasks.get(event.task);
        tasks.delete(event.task);
        erase();
        if (task === undefined || event.outcome === 'failed') return;
        if (monotonicMs() - task.startedMs > quietMs)
          say('ok', describe(event.task, { ...task, totalBytes: undefined }));
        return;
      }
      case 'finding':
        if (event.finding.severity !== 'info' || verbose) {
          const { severity, subject, message } = event.finding;
          say(severity === 'warning' ? 'warn' : severity, `${subject}: ${message}`);
        }
    }
  };

  return {
    event: onEvent,
    result(_value, human) {
      erase();
      if (human !== '') stdout.write(`${human}\n`);
    },
    failure(error: TarsError) {
      say('error', error.message);
      if (error.hint !== undefined) stderr.write(`        ${error.hint}\n`);
      if (verbose && error.stack !== undefined) stderr.write(`${error.stack}\n`);
    },
    async confirm(question, signal) {
      if (!stdin.isTTY || !stderr.isTTY) return undefined;
      erase();
      const lines = createInterface({ input: stdin, output: stderr });
      try {
        const answer = await lines.question(`${question} [y/N] `, { signal });
        return /^y(es)?$/i.test(answer.trim());
      } finally {
        lines.close();
      }
    },
    [Symbol.dispose]: erase,
  };
}
