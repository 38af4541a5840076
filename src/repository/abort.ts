import { toTarsError } from '../model/errors.ts';

/** @throws TarsError the signal's reason; `interrupted` for an ordinary abort */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw toTarsError(signal.reason, 'Interrupted');
}
