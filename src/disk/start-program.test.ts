import assert from 'node:assert/strict';
import { ChildProcess } from 'node:child_process';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { execa } from 'execa';
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

test('a program that fails and is not waited for is an unhandled rejection, as without a signal', async () => {
  const module = JSON.stringify(new URL('./start-program.ts', import.meta.url).href);
  const script = `import { startProgram } from ${module};
    startProgram('false', [], {}, new AbortController().signal);`;
  const args = ['--input-type=module', '--eval', script];
  const { exitCode, stderr } = await execa(process.execPath, args, { reject: false });
  assert.equal(exitCode, 1, stderr);
  assert.match(stderr, /Command failed with exit code 1: false/);
});

test('a program that has ended leaves nothing at the signal', async () => {
  const { signal } = new AbortController();
  await startProgram('true', [], quiet, signal);
  await startProgram('false', [], quiet, signal);
  await startProgram('/nonexistent/program', [], quiet, signal);
  assert.deepEqual(getEventListeners(signal, 'abort'), []);
});
