import type { TarsError } from '../../model/errors.ts';
import type { OperationEvent } from '../../model/events.ts';
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
