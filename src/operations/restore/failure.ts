import { InterruptedError, messageOf, TarsError } from '../../model/errors.ts';
import { putBack } from './put-back.ts';
import type { Run } from './run.ts';

/** Puts everything back and returns the error to throw, which says how things stand now. */
export async function putBackAfter(error: unknown, run: Run): Promise<unknown> {
  const { entry, target, journal, ctx } = run;
  const { phase, stopped } = entry();
  const reason = ctx.signal.aborted ? 'it was interrupted' : messageOf(error);
  const logEnd = await logEndBefore(error, run);
  let left: readonly string[];
  try {
    // A note that failed may have been written all the same: half undone must never be taken for swapped.
    if (phase === 'swapping') await journal.write(entry());
    left = await putBack(entry(), target, journal, ctx);
  } catch (failure) {
    const hint = hintOf(failure);
    return new TarsError(
      'restore-failed',
      `The restore failed (${reason}) and could not be undone: ${messageOf(failure)}`,
      hint === undefined ? { cause: failure } : { hint, cause: failure },
    );
  }
  const { created } = entry();
  const untouched = phase === 'staging' && stopped.length === 0 && created === undefined;
  const data = phase === 'staging' ? 'no live data had changed' : 'the previous data was put back';
  const state = created === undefined ? data : `${data}, and the objects that it had created were removed`;
  if (left.length > 0) {
    return new TarsError(
      'restore-failed',
      `The restore failed (${reason}); ${state}, but: ${left.join('; ')}${logEnd ?? ''}`,
      {
        hint: 'Fix that, then run the same restore again.',
        cause: error,
      },
    );
  }
  if (ctx.signal.aborted) return new InterruptedError(`Interrupted; ${state}`, { cause: error });
  if (untouched) return error;
  return new TarsError('restore-failed', `The restore failed, ${state}: ${reason}${logEnd ?? ''}`, {
    hint:
      (logEnd === undefined
        ? hintOf(error)
        : 'Read the end of its log above, then run the same restore again.') ??
      'Fix the cause, then run the same restore again.',
    cause: error,
  });
}

const hintOf = (error: unknown): string | undefined => (error instanceof TarsError ? error.hint : undefined);

/** Of the service that failed, where its container was created by this restore: the log goes with the container. */
async function logEndBefore(error: unknown, { entry, target, ctx }: Run): Promise<string | undefined> {
  const service = error instanceof TarsError ? error.context['service'] : undefined;
  const isNew = entry().created?.containers.some((container) => container.service === service) === true;
  if (typeof service !== 'string' || !isNew || target.provisioner === undefined) return undefined;
  const fresh = { ...ctx, signal: new AbortController().signal };
  const text = await target.provisioner.logEnd(service, fresh).catch(() => '');
  return text === '' ? undefined : `\nThe end of the log of ${service}, whose container is removed:\n${text}`;
}
