import assert from 'node:assert/strict';
import { ChildProcess } from 'node:child_process';
import { test } from 'node:test';
import { signalChild, startProgram } from './start-program.ts';

const quiet = { reject: false, stdin: 'ignore' } as const;

test('an abort ends a program by SIGTERM', async () => {
  const stop = new AbortController();
  const running = startProgram('sleep', ['100'], quiet, stop.signal);
  stop.abort();
  assert.equal((await running).signal, 'SIGTERM');
});

test('nothing is started once the signal has aborted', () => {
  assert.throws(() => startProgram('true', [], quiet, AbortSignal.abort()), { code: 'interrupted' });
});

test('a program that could not be started is never signalled: its handle has no pid but a random number', async (t) => {
  const kill = t.mock.method(ChildProcess.prototype, 'kill', () => false);
  const stop = new AbortController();
  const missing = startProgram('/nonexistent/program', [], quiet, stop.signal);
  // Before the next turn of the event loop, in which the handle goes.
  stop.abort();
  assert.equal(signalChild(missing), false);
  assert.equal((await missing).code, 'ENOENT');
  assert.equal(kill.mock.callCount(), 0);
});
