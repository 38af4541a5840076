import type { TarsError } from '../../model/errors.ts';
import type { OperationEvent } from '../../model/events.ts';
import { describeFinding } from '../../model/finding.ts';
import type { Audience } from './audience.ts';
import { ProgressDisplay } from './progress.ts';
import { askYes, terminalQuestions } from './questions.ts';
import { visible } from './visible.ts';

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
    stderr.write(`${labels[label]} ${visible(text)}\n`);
  };
  const terminal = { stdin, stderr, capable };
  const questions = terminalQuestions(terminal);
  const progress = new ProgressDisplay({ stderr, isLive: stderr.isTTY && capable, monotonicMs, say });

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
      // What is piped elsewhere is copied as it is: lines of a restore name files by their true names.
      if (human !== '') stdout.write(`${stdout.isTTY ? visible(human) : human}\n`);
    },
    failure(error: TarsError) {
      say('error', error.message);
      if (error.hint !== undefined) stderr.write(`        ${visible(error.hint)}\n`);
      if (verbose && error.stack !== undefined) stderr.write(`${visible(error.stack)}\n`);
    },
    confirm(question, signal) {
      progress.erase();
      return askYes(question, terminal, signal);
    },
    ...(stdout.isTTY && stdout.columns > 0 ? { columns: stdout.columns } : {}),
    ...(questions === undefined ? {} : { questions }),
    [Symbol.dispose]: () => progress[Symbol.dispose](),
  };
}
