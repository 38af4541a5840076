import assert from 'node:assert/strict';
import { test } from 'node:test';
import { abortError, throwIfAborted } from './abort.ts';
import { InterruptedError, RepositoryLockedError } from './errors.ts';

test('a signal that has not aborted lets the work continue', () => {
  throwIfAborted(new AbortController().signal, new Error('Something else failed'));
});

test('an ordinary abort is an interruption, with what failed because of it as its cause', () => {
  const signal = AbortSignal.abort();
  assert.throws(() => throwIfAborted(signal), { code: 'interrupted', cause: signal.reason as Error });
  const cause = new Error('The connection was closed');
  const error = abortError(signal, cause);
  assert.ok(error instanceof InterruptedError);
  assert.equal(error.cause, cause);
});

test('the reason of the signal says more than that it was interrupted', () => {
  const lost = new RepositoryLockedError('The lock is lost');
  assert.throws(
    () => throwIfAborted(AbortSignal.abort(lost), new Error('A read failed')),
    (error) => error === lost,
  );
});
