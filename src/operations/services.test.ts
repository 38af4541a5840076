import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServiceUnavailableError, TarsError } from '../model/errors.ts';
import type { Component } from '../ports/component.ts';
import type { OperationContext } from '../ports/context.ts';
import type { Runtime } from '../ports/runtime.ts';
import { waitReady } from './services.ts';

/** Answers with these errors one after the other, then well; how long was slept until then is counted. */
function scene(errors: readonly TarsError[]): { wait: () => Promise<void>; sleptMs: () => number } {
  let nowMs = 0;
  const left = [...errors];
  const silent = (): void => undefined;
  const ctx: OperationContext = {
    signal: new AbortController().signal,
    clock: {
      now: () => new Date(nowMs),
      monotonicMs: () => nowMs,
      sleep: (ms) => {
        nowMs += ms;
        return Promise.resolve();
      },
    },
    log: { debug: silent, info: silent, warn: silent },
    progress: { start: () => ({ advance: silent, finish: silent }) },
  };
  const ready = (): Promise<void> => {
    const error = left.shift();
    return error === undefined ? Promise.resolve() : Promise.reject(error);
  };
  const component = {
    name: 'store',
    kind: 'redis',
    service: 'store',
    ready,
  } as Partial<Component> as Component;
  const running = {
    ...{ name: 'store', state: 'running' as const, dependsOn: [], writer: false },
    ...{ canPause: true, canStop: true },
  };
  const runtime = { discover: () => Promise.resolve([running]) } as Partial<Runtime> as Runtime;
  return { wait: () => waitReady(component, runtime, ctx), sleptMs: () => nowMs };
}

const starting = new ServiceUnavailableError('It does not answer yet');

test('a store that does not answer yet is waited for', async () => {
  const { wait, sleptMs } = scene([starting, starting, starting]);
  await wait();
  assert.ok(sleptMs() > 0);
});

test('one that never answers is given up, with what it said last', async () => {
  const { wait, sleptMs } = scene(Array.from({ length: 10_000 }, () => starting));
  await assert.rejects(wait(), { code: 'timeout', cause: starting });
  assert.ok(sleptMs() >= 120_000);
});

for (const code of ['access-denied', 'configuration', 'unsupported-version'] as const) {
  test(`${code} is not cured by waiting, and said at once`, async () => {
    const error = new TarsError(code, 'Refused', { hint: 'Correct it.' });
    const { wait, sleptMs } = scene([starting, error]);
    await assert.rejects(wait(), error);
    assert.ok(sleptMs() < 1000);
  });
}
