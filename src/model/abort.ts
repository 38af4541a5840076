import { InterruptedError, TarsError, toTarsError } from './errors.ts';

/**
 * @param cause what failed because of the abort, kept as the cause
 * @throws TarsError the signal's reason when it is one, such as a lost lock; otherwise an InterruptedError
 */
export function throwIfAborted(signal: AbortSignal, cause?: unknown): void {
  if (signal.aborted) throw abortError(signal, cause);
}

/** What {@link throwIfAborted} throws for a signal that has aborted. */
export function abortError(signal: AbortSignal, cause?: unknown): TarsError {
  const reason = toTarsError(signal.reason, 'Interrupted');
  if (cause === undefined || reason.code !== 'interrupted') return reason;
  return new InterruptedError('Interrupted', { cause });
}
