import { throwIfAborted } from '../../model/abort.ts';
import { toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';

/** What a check found. `error`: a backup or a restore would fail. */
export interface Outcome {
  readonly state: 'ok' | 'warning' | 'error';
  /** One sentence for a person. */
  readonly found: string;
  /** What to do about it; an imperative sentence. */
  readonly hint?: string | undefined;
}

/** What one check found. */
export interface Diagnosis extends Outcome {
  /** The check's name. */
  readonly check: string;
}

/** One precondition that is looked at. Changes nothing. */
export interface HealthCheck {
  /** Such as `repository` or `store postgres`. */
  readonly name: string;
  /** It waits for what another check looks at too, which says so itself when that hangs. */
  readonly follows?: true;
  /** Nothing found means that it has nothing to say. What it throws is an error found. */
  readonly examine: (ctx: OperationContext) => Promise<readonly Outcome[]>;
}

/** Nothing to be done. */
export const ok = (found: string): Outcome => ({ state: 'ok', found });
/** Something should be done soon; `hint` is what. */
export const warning = (found: string, hint?: string): Outcome => ({ state: 'warning', found, hint });
/** Something does not work until `hint` is done. */
export const error = (found: string, hint?: string): Outcome => ({ state: 'error', found, hint });

/**
 * Carries out all checks side by side, none for longer than `limitMs`, and returns what each found, in their order.
 * @throws InterruptedError when the signal aborts
 */
export async function examine(
  checks: readonly HealthCheck[],
  limitMs: number,
  ctx: OperationContext,
): Promise<readonly Diagnosis[]> {
  const done = new AbortController();
  const limited = { ...ctx, signal: AbortSignal.any([ctx.signal, done.signal]) };
  const late = ctx.clock.sleep(limitMs, limited.signal).then(
    (): readonly Outcome[] => [
      error(`No answer within ${limitMs / 1000} s`, 'Find out why it hangs, then run tars doctor again.'),
    ],
    // Nobody waits for it any more.
    () => [],
  );
  try {
    const found = await Promise.all(
      checks.map(async ({ name, examine, follows }) => {
        const nothing = late.then(() => []);
        const outcomes = await Promise.race([
          lookSafely(examine, limited),
          follows === true ? nothing : late,
        ]);
        return outcomes.map((outcome) => ({ check: name, ...outcome }));
      }),
    );
    throwIfAborted(ctx.signal);
    return found.flat();
  } finally {
    // What still hangs lets go of its connections.
    done.abort();
  }
}

async function lookSafely(
  examine: HealthCheck['examine'],
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  try {
    return await examine(ctx);
  } catch (cause) {
    const { message, hint } = toTarsError(cause, 'This could not be checked');
    return [error(message, hint ?? 'Fix that, or correct tars.yaml.')];
  }
}

/** Whether a backup or a restore would fail. */
export const hasErrors = (diagnoses: readonly Diagnosis[]): boolean =>
  diagnoses.some(({ state }) => state === 'error');

/** What several checks examine at is opened once, when the first of them wants it. */
export function once<T>(open: (ctx: OperationContext) => Promise<T>): (ctx: OperationContext) => Promise<T> {
  let opened: Promise<T> | undefined;
  return (ctx) => (opened ??= open(ctx));
}
