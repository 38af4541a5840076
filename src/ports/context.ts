/** Time as a parameter: tests and simulations drive it. */
export interface Clock {
  now(): Date;
  /** Milliseconds from an arbitrary origin, never going back. */
  monotonicMs(): number;
  /** Resolves after `ms`. @throws InterruptedError when `signal` aborts first */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** Messages for the operator. Secrets must be redacted before they get here. */
interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
}

/** One running piece of work whose progress is shown. */
export interface ProgressTask {
  /** Adds to the bytes done. */
  advance(bytes: number): void;
  finish(outcome: 'ok' | 'failed'): void;
}

/**
 * Shows how far work has got. Tasks may run side by side; without `totalBytes` nobody knows how much there will
 * be.
 */
interface Progress {
  start(task: string, totalBytes?: number): ProgressTask;
}

/** Passed to everything that may take long. Aborting `signal` makes it stop cleanly with InterruptedError. */
export interface OperationContext {
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly progress: Progress;
  readonly clock: Clock;
}
