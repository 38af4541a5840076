import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { examined, stackChecks, type StackUnderExamination } from './stack.ts';
import { examine, hasErrors, ok, once, warning, type HealthCheck } from './doctor.ts';

const silent = (): void => undefined;

/** A context whose clock lets `sleep` end when `limit` does. */
function contextWith(limit: Promise<void>, signal = new AbortController().signal): OperationContext {
  return {
    signal,
    clock: { now: () => new Date(0), monotonicMs: () => 0, sleep: () => limit },
    log: { debug: silent, info: silent, warn: silent },
    progress: { start: () => ({ advance: silent, finish: silent }) },
  };
}
const pending = new Promise<never>(silent);

test('what one check throws is an error of its own, and the others are told all the same, in their order', async () => {
  const checks: HealthCheck[] = [
    { name: 'first', examine: () => Promise.reject(new TarsError('access-denied', 'No', { hint: 'Do.' })) },
    { name: 'second', examine: () => Promise.resolve([warning('Hm', 'Mend.'), ok('Well')]) },
    { name: 'third', examine: () => Promise.resolve([]) },
  ];
  assert.deepEqual(await examine(checks, 1000, contextWith(pending)), [
    { check: 'first', state: 'error', found: 'No', hint: 'Do.' },
    { check: 'second', state: 'warning', found: 'Hm', hint: 'Mend.' },
    { check: 'second', state: 'ok', found: 'Well' },
  ]);
});

test('a check that hangs is an error, holds nobody up, and is told to let go', async () => {
  const limit = Promise.withResolvers<undefined>();
  let told: AbortSignal | undefined;
  const checks: HealthCheck[] = [
    {
      name: 'hangs',
      examine: ({ signal }) => {
        told = signal;
        return pending;
      },
    },
    {
      name: 'answers',
      examine: () => {
        setImmediate(() => limit.resolve(undefined));
        return Promise.resolve([ok('Well')]);
      },
    },
  ];
  checks.push({ name: 'waits for it too', follows: true, examine: () => pending });
  const found = await examine(checks, 7000, contextWith(limit.promise));
  assert.deepEqual(
    found.map(({ check, state }) => [check, state]),
    [
      ['hangs', 'error'],
      ['answers', 'ok'],
    ],
  );
  assert.match(found[0]?.found ?? '', /within 7 s/);
  assert.equal(told?.aborted, true);
  assert.equal(hasErrors(found), true);
});

test('an interruption is one, whatever the checks make of it', async () => {
  const controller = new AbortController();
  const interrupted = (): Promise<never> => {
    controller.abort();
    return Promise.reject(new Error('aborted'));
  };
  await assert.rejects(
    examine([{ name: 'any', examine: interrupted }], 1000, contextWith(pending, controller.signal)),
    {
      code: 'interrupted',
    },
  );
});

test('a writer that tars.yaml does not declare stands in the way of a cut', async () => {
  const service = {
    name: 'web',
    state: 'running',
    dependsOn: ['db'],
    canPause: true,
    canStop: true,
  } as const;
  const component = examined({ name: 'db', kind: 'postgres', service: 'db' }, () => pending);
  const cut = stackChecks({
    ...{ stack: 's', components: [component, component] },
    services: () => Promise.resolve([{ ...service, writer: false, seemsWriter: 'depends on db' }]),
  } as unknown as StackUnderExamination).filter(({ name }) => name === 'cut');
  const [found] = await examine(cut, 1000, contextWith(pending));
  assert.equal(found?.state, 'warning');
  assert.match(found.found, /^web \(depends on db\) may write/);
  assert.match(found.hint ?? '', /writer: false/);
});

const service = { state: 'running', dependsOn: [], writer: false, canPause: true, canStop: true } as const;

test('when nothing is left of the stack, that is one error, and its hint is the restore', async () => {
  const gone = (name: string) =>
    examined({ name, kind: 'redis', service: name }, () => Promise.reject(new TarsError('internal', 'gone')));
  const components = [
    { name: 'db', outcome: 'captured' },
    { name: 'cache', outcome: 'failed' },
  ];
  const stack = {
    ...{ stack: 's', components: [gone('db'), gone('cache')] },
    services: () => Promise.resolve(['db', 'cache'].map((name) => ({ ...service, name, missing: true }))),
    lastManifest: () => Promise.resolve({ time: '2026-11-24T00:00:00Z', components }),
    lastSnapshot: () => Promise.resolve({}),
  } as unknown as StackUnderExamination;
  const checks = stackChecks(stack).filter(({ name }) => /^(store|services|cut|restore)/.test(name));
  const found = await examine(checks, 1000, contextWith(pending));
  assert.deepEqual(
    found.map(({ check, state }) => `${check} ${state}`),
    ['services error'],
  );
  assert.match(found[0]?.found ?? '', /^Nothing is left .* 2026-11-24T00:00:00Z holds db$/);
  assert.match(found[0]?.hint ?? '', /^Run tars restore/);
});

test('a service of which nobody knows whether it runs is no good news', async () => {
  const services = stackChecks({
    ...{ stack: 's', components: [] },
    services: () =>
      Promise.resolve([
        { ...service, name: 'db' },
        { ...service, name: 'web', state: 'unknown' },
      ]),
  } as unknown as StackUnderExamination).filter(({ name }) => name === 'services');
  const [found] = await examine(services, 1000, contextWith(pending));
  assert.equal(found?.state, 'warning');
  assert.match(found.found, /^1 of 2 services run; web is in an unknown state/);
});

test('what several checks examine at is opened once', async () => {
  let opened = 0;
  const open = once(() => Promise.resolve((opened += 1)));
  assert.equal(await open(contextWith(pending)), await open(contextWith(pending)));
  assert.equal(opened, 1);
});
