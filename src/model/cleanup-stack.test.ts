import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CleanupStack } from './cleanup-stack.ts';

test('everything is cleaned up once, the latest first, also when some of it fails', async () => {
  const done: number[] = [];
  const cleanup = (n: number) => async (): Promise<void> => {
    done.push(await Promise.resolve(n));
    if (n > 1) throw new Error(`cannot clean up ${n}`);
  };
  const stack = new CleanupStack();
  stack.defer(cleanup(0));
  stack.use({ [Symbol.asyncDispose]: cleanup(1) });
  stack.defer(cleanup(2));
  await assert.rejects(stack[Symbol.asyncDispose](), /cannot clean up 2/);
  await stack[Symbol.asyncDispose]();
  assert.deepEqual(done, [2, 1, 0]);
  stack.defer(cleanup(3));
  stack.defer(cleanup(4));
  await assert.rejects(stack[Symbol.asyncDispose](), AggregateError);
});

test('what was handed over is left to the other one', async () => {
  const done: string[] = [];
  const stack = new CleanupStack();
  stack.defer(() => Promise.resolve(done.push('first')));
  const moved = stack.move();
  stack.defer(() => Promise.resolve(done.push('later')));
  await stack[Symbol.asyncDispose]();
  assert.deepEqual(done, ['later']);
  await moved[Symbol.asyncDispose]();
  assert.deepEqual(done, ['later', 'first']);
});
