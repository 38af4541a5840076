import { createInterface } from 'node:readline/promises';
import { InterruptedError, type TarsError } from '../../model/errors.ts';
import type { OperationEvent } from '../../model/events.ts';
import { describeFinding } from '../../model/finding.ts';
import type { Audience } from './audience.ts';
import { ProgressDisplay } from './progress.ts';
import { terminalQuestions } from './questions.ts';

/** The terminal, and what it is capable of. */
interface HumanOptions {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  readonly stdin: NodeJS.ReadStream;
  readonly color: boolean;
  readonly verbose: boolean;
  /** The terminal can move its cursor. */
  readonly capable: boolean;
  readonly monotonicMs: () => number;
}

/** Results to stdout; messages and progress to stderr, live on a terminal and plain lines elsewhere. */
export function humanAudience({
  stdout,
  stderr,
  stdin,
  color,
  verbose,
  capable,
  monotonicMs,
}: HumanOptions): Audience {
  const paint = (code: number, text: string): string => (color ? `\u001b[${code}m${text}\u001b[0m` : text);
  const labels = {
    debug: paint(2, '[DEBUG]'),
    info: paint(36, '[INFO]'),
    warn: paint(33, '[WARN]'),
    error: paint(31, '[ERROR]'),
    ok: paint(32, '[OK]'),
  };
  const say = (label: keyof typeof labels, text: string): void => {
    progress.erase();
    stderr.write(`${labels[label]} ${text}\n`);
  };
  const progress = new ProgressDisplay({ stderr, monotonicMs, say });

  const onEvent = (event: OperationEvent): void => {
    switch (event.type) {
      case 'message':
        if (event.level !== 'debug' || verbose) say(event.level, event.message);
        return;
      case 'task-started': {
        progress.start(event.task, event.totalBytes);
        return;
      }
      case 'task-progress': {
        progress.advanceTo(event.task, event.doneBytes);
        return;
      }
      case 'task-finished': {
        progress.finish(event.task, event.outcome);
        return;
      }
      case 'finding':
        if (event.finding.severity !== 'info' || verbose) {
          const { severity } = event.finding;
          say(severity === 'warning' ? 'warn' : severity, describeFinding(event.finding));
        }
    }
  };

  return {
    event: onEvent,
    result(_value, human) {
      progress.erase();
      if (human !== '') stdout.write(`${human}\n`);
    },
    failure(error: TarsError) {
      say('error', error.message);
      if (error.hint !== undefined) stderr.write(`        ${error.hint}\n`);
      if (verbose && error.stack !== undefined) stderr.write(`${error.stack}\n`);
    },
    async confirm(question, signal) {
      if (!stdin.isTTY || !stderr.isTTY) return undefined;
      progress.erase();
      return ask(`${question} [y/N] `, { stdin, stderr }, signal);
    },
    ...(stdout.isTTY && stdout.columns > 0 ? { columns: stdout.columns } : {}),
    ...(capable && stdin.isTTY && stderr.isTTY ? { questions: terminalQuestions({ stdin, stderr }) } : {}),
    [Symbol.dispose]: () => progress[Symbol.dispose](),
  };
}

/** @throws InterruptedError on Ctrl-C and Ctrl-D, which readline keeps from the process */
async function ask(
  question: string,
  { stdin, stderr }: Pick<HumanOptions, 'stdin' | 'stderr'>,
  signal: AbortSignal,
): Promise<boolean> {
  const lines = createInterface({ input: stdin, output: stderr });
  const closed = Promise.withResolvers<never>();
  for (const event of ['SIGINT', 'close'] as const) {
    lines.once(event, () => closed.reject(new InterruptedError('Interrupted; nothing was touched')));
  }
  try {
    const answer = await Promise.race([lines.question(question, { signal }), closed.promise]);
    return /^y(es)?$/i.test(answer.trim());
  } catch (error) {
    stderr.write('\n');
    throw error;
  } finally {
    lines.close();
  }
}
