import { systemClock } from '../../composition/index.ts';
import type { TarsError } from '../../model/errors.ts';
import type { OperationEvent } from '../../model/events.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Questions } from './questions.ts';

/** Who watches an operation: the terminal, or a program that reads JSON. */
export interface Audience extends Disposable {
  event(event: OperationEvent): void;
  /** The verb's result, on stdout: `human` for people, `value` for programs. */
  result(value: unknown, human: string): void;
  failure(error: TarsError): void;
  /** Asks a yes/no question. Without a terminal the answer is undefined. */
  confirm(question: string, signal: AbortSignal): Promise<boolean | undefined>;
  /** How wide the terminal is that shows results; absent without one. */
  readonly columns?: number;
  /** For a conversation of several questions; absent without a terminal that can show it. */
  readonly questions?: Questions;
}

/** Events of progress are passed on this often per task at most. */
const progressIntervalMs = 50;

/** An operation's context whose log and progress become events for the audience. */
export function contextFor(audience: Audience, signal: AbortSignal): OperationContext {
  const message = (level: 'debug' | 'info' | 'warn') => (text: string) =>
    audience.event({ type: 'message', level, message: text });
  return {
    signal,
    clock: systemClock,
    log: { debug: message('debug'), info: message('info'), warn: message('warn') },
    progress: {
      start(task, totalBytes) {
        let doneBytes = 0;
        let saidMs = systemClock.monotonicMs();
        audience.event({ type: 'task-started', task, totalBytes });
        return {
          advance(bytes) {
            doneBytes += bytes;
            const nowMs = systemClock.monotonicMs();
            if (nowMs - saidMs < progressIntervalMs) return;
            saidMs = nowMs;
            audience.event({ type: 'task-progress', task, doneBytes, totalBytes });
          },
          finish(outcome) {
            audience.event({ type: 'task-progress', task, doneBytes, totalBytes });
            audience.event({ type: 'task-finished', task, outcome });
          },
        };
      },
    },
  };
}
