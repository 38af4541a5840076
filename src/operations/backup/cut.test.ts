import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InterruptedError } from '../../model/errors.ts';
import type { PreparedCapture } from '../../ports/component.ts';
import type { Clock, OperationContext } from '../../ports/context.ts';
import type { Guardian, Runtime, Service } from '../../ports/runtime.ts';
import { settledCut, sortWriters, takeCut, type CutOptions, type Writers } from './cut.ts';

/** A clock that moves only when somebody sleeps on it or it is told to. */
class ManualClock implements Clock {
  private nowMs = 0;
  private readonly sleepers: { atMs: number; wake: () => void }[] = [];
  now = (): Date => new Date(this.nowMs);
  monotonicMs = (): number => this.nowMs;
  sleep = (ms: number, signal: AbortSignal): Promise<void> =>
    new Promise((wake, reject) => {
      this.sleepers.push({ atMs: this.nowMs + ms, wake });
      signal.addEventListener('abort', () => reject(new InterruptedError()), { once: true });
    });
  advance(ms: number): void {
    this.nowMs += ms;
    for (const { atMs, wake } of this.sleepers) if (atMs <= this.nowMs) wake();
  }
}

const nobody: Writers = { pausable: [], idle: [], free: [], undeclared: [] };

const serviceOf = (name: string, state: Service['state'], more: Partial<Service> = {}): Service => ({
  ...{ name, state, dependsOn: [], writer: true, canPause: true, canStop: true },
  ...more,
});

interface Scene {
  readonly options: CutOptions;
  readonly ctx: OperationContext;
  readonly clock: ManualClock;
  readonly events: string[];
  readonly abort: AbortController;
}

function scene(overrides: {
  marks?: Record<string, (signal: AbortSignal) => Promise<void>>;
  pointInTime?: 'cut' | 'own';
  guardianFired?: boolean;
  pauseFails?: boolean;
  resumeFails?: boolean;
  armFails?: boolean;
  writers?: Partial<Writers>;
  /** What the runtime tells after the marks. */
  laterStates?: Record<string, Service['state']>;
}): Scene {
  const events: string[] = [];
  const clock = new ManualClock();
  const abort = new AbortController();
  const silent = (): void => undefined;
  const marks = overrides.marks ?? { store: () => Promise.resolve() };
  const prepared = new Map(
    Object.entries(marks).map(([name, mark]): [string, PreparedCapture] => [
      name,
      {
        pointInTime: overrides.pointInTime ?? 'cut',
        mark: (signal) => {
          events.push(`mark ${name}`);
          return mark(signal);
        },
        settle: () => Promise.resolve(),
        capture: () => Promise.reject(new Error('not part of the cut')),
        [Symbol.asyncDispose]: () => Promise.resolve(),
      },
    ]),
  );
  const runtime = {
    resumeActions: () => Promise.resolve([]),
    discover: () => {
      events.push('discover');
      const states = overrides.laterStates;
      if (states === undefined) return Promise.reject(new Error('no such engine'));
      return Promise.resolve(Object.entries(states).map(([name, state]) => serviceOf(name, state)));
    },
    pause: () => {
      events.push('pause');
      return overrides.pauseFails === true ? Promise.reject(new Error('no such process')) : Promise.resolve();
    },
    resume: () => {
      events.push('resume');
      return overrides.resumeFails === true ? Promise.reject(new Error('no such engine')) : Promise.resolve();
    },
  } as unknown as Runtime;
  const guardian: Guardian = {
    arm: () => {
      events.push('arm');
      if (overrides.armFails === true) return Promise.reject(new Error('cannot fork'));
      return Promise.resolve({
        disarm: () => {
          events.push('disarm');
          return Promise.resolve(overrides.guardianFired === true);
        },
      });
    },
  };
  const ctx: OperationContext = {
    signal: abort.signal,
    clock,
    log: { debug: silent, info: silent, warn: silent },
    progress: { start: () => ({ advance: silent, finish: silent }) },
  };
  const options = {
    prepared,
    runtime,
    guardian,
    writers: { ...nobody, ...(overrides.writers ?? { pausable: ['backend'] }) },
    pauseMaxMs: 5000,
  };
  return { options, ctx, clock, events, abort };
}

test('marks lie between pause and resume, with the guardian armed around both', async () => {
  const { options, ctx, events } = scene({});
  const cut = await takeCut(options, ctx);
  assert.deepEqual(events, ['arm', 'pause', 'mark store', 'resume', 'disarm']);
  assert.equal(cut.consistency, 'cut');
  assert.equal(cut.reason, undefined);
});

test('without writers it is per-store and nothing is paused', async () => {
  const { options, ctx, events } = scene({ writers: {} });
  const cut = await takeCut(options, ctx);
  assert.deepEqual(events, ['mark store']);
  assert.equal(cut.consistency, 'per-store');
  assert.match(cut.reason ?? '', /no service is declared as a writer/);
});

test('it is never called a cut when a service that seems to write is not declared', async () => {
  const undeclared = [{ name: 'web', why: 'depends on db' }];
  for (const pausable of [[], ['backend']]) {
    const { options, ctx } = scene({ writers: { pausable, undeclared } });
    const cut = await takeCut(options, ctx);
    assert.equal(cut.consistency, 'per-store');
    assert.match(cut.reason ?? '', /^web \(depends on db\) may have written during the cut/);
  }
});

test('a store that a writer may embed is locked before the writer is paused, and marked with the others', async () => {
  const { options, ctx, events } = scene({
    marks: { chroma: () => Promise.resolve(), pg: () => Promise.resolve() },
  });
  const hold = (outcome: () => Promise<void>) => {
    events.length = 0;
    const chroma = options.prepared.get('chroma')!;
    const holding = {
      ...chroma,
      mark: (signal: AbortSignal) => chroma.mark(signal),
      holdWrites: () => {
        events.push('lock');
        return outcome();
      },
    };
    return takeCut({ ...options, prepared: new Map([...options.prepared, ['chroma', holding]]) }, ctx);
  };
  assert.equal((await hold(() => Promise.resolve())).consistency, 'cut');
  assert.deepEqual(events, ['arm', 'lock', 'pause', 'mark chroma', 'mark pg', 'resume', 'disarm']);
  const refused = await hold(() => Promise.reject(new Error('busy')));
  assert.deepEqual([...refused.failed.keys()], ['chroma']);
  assert.deepEqual(events, ['arm', 'lock', 'pause', 'mark pg', 'resume', 'disarm']);
});

test('writers are sorted by what keeps them from writing', () => {
  const services = [
    serviceOf('runs', 'running'),
    serviceOf('down', 'stopped', { canPause: false }),
    serviceOf('held', 'paused'),
    serviceOf('unpausable', 'running', { canPause: false }),
    serviceOf('unclear', 'unknown'),
    serviceOf('misspelt', 'stopped', { missing: true }),
    serviceOf('store', 'running', { writer: false }),
    serviceOf('web', 'running', { writer: false, seemsWriter: 'depends on store' }),
    serviceOf('off', 'stopped', { writer: false, seemsWriter: 'depends on store' }),
  ];
  assert.deepEqual(sortWriters(services), {
    pausable: ['runs'],
    idle: ['down', 'held'],
    free: ['unpausable', 'unclear', 'misspelt'],
    undeclared: [{ name: 'web', why: 'depends on store' }],
  });
});

test('writers that do not run before and after the marks make it a cut without a pause', async () => {
  const { options, ctx, events } = scene({
    writers: { idle: ['worker'] },
    laterStates: { worker: 'stopped' },
  });
  const cut = await takeCut(options, ctx);
  assert.deepEqual(events, ['mark store', 'discover']);
  assert.equal(cut.consistency, 'cut');
  assert.equal(cut.reason, undefined);
  assert.equal(cut.writerPauseMs, undefined);
});

for (const [name, laterStates, expected] of [
  ['was started meanwhile', { worker: 'running' }, /worker was started during the cut/],
  ['cannot be looked at any more', undefined, /unknown whether worker.*no such engine/],
] as const) {
  test(`it is never called a cut when a writer that did not run ${name}`, async () => {
    for (const pausable of [[], ['backend']]) {
      const writers = { pausable, idle: ['worker'] };
      const { options, ctx } = scene(laterStates === undefined ? { writers } : { writers, laterStates });
      const cut = await takeCut(options, ctx);
      assert.equal(cut.consistency, 'per-store');
      assert.match(cut.reason ?? '', expected);
    }
  });
}

test('it is never called a cut when one writer runs that cannot be paused, though the others are', async () => {
  const { options, ctx, events } = scene({ writers: { pausable: ['backend'], free: ['worker'] } });
  const cut = await takeCut(options, ctx);
  assert.ok(events.includes('pause'));
  assert.equal(cut.consistency, 'per-store');
  assert.match(cut.reason ?? '', /worker/);
});

for (const [name, overrides] of Object.entries({
  'the guardian had to resume the writers': { guardianFired: true },
  'the pause failed': { pauseFails: true },
  'the guardian could not be started': { armFails: true },
})) {
  test(`it is never called a cut when ${name}`, async () => {
    const { options, ctx, events } = scene(overrides);
    const cut = await takeCut(options, ctx);
    assert.equal(cut.consistency, 'per-store');
    assert.ok(cut.reason);
    assert.ok(events.includes('mark store'));
  });
}

test('it is no longer called a cut when a component ended up with a moment of its own', async () => {
  const { options, ctx } = scene({ pointInTime: 'own' });
  const cut = await takeCut(options, ctx);
  const settled = settledCut(cut, options.prepared, new Set());
  assert.equal(settled.consistency, 'per-store');
  assert.match(settled.reason ?? '', /store/);
  assert.equal(
    settledCut(cut, options.prepared, new Set(['store'])).consistency,
    'cut',
    'failed ones do not count',
  );
});

test('without a guardian nobody is paused', async () => {
  const { options, ctx, events } = scene({ armFails: true });
  await takeCut(options, ctx);
  assert.ok(!events.includes('pause'));
});

test('a failing mark fails its component only, and the writers run again', async () => {
  const { options, ctx, events } = scene({
    marks: { good: () => Promise.resolve(), bad: () => Promise.reject(new Error('broken')) },
  });
  const cut = await takeCut(options, ctx);
  assert.deepEqual([...cut.failed.keys()], ['bad']);
  assert.deepEqual(events.slice(-2), ['resume', 'disarm']);
});

test('a mark that ignores its signal and never ends is late, and the writers run again', async () => {
  const hung = scene({ marks: { slow: () => new Promise(() => undefined) } });
  const taken = takeCut(hung.options, hung.ctx);
  while (!hung.events.includes('mark slow')) await new Promise(setImmediate);
  hung.clock.advance(4000);
  const cut = await taken;
  assert.equal(cut.failed.get('slow')?.code, 'timeout');
  assert.equal(cut.writerPauseMs, 4000);
  assert.deepEqual(hung.events.slice(-2), ['resume', 'disarm']);
});

test('writers that cannot be resumed are left to the guardian', async () => {
  const { options, ctx, events } = scene({ resumeFails: true });
  await assert.rejects(takeCut(options, ctx), /no such engine/);
  assert.equal(events.at(-1), 'resume');
});

test('an interruption inside the pause still resumes the writers', async () => {
  const hung = scene({ marks: { slow: () => new Promise(() => undefined) } });
  const taken = takeCut(hung.options, hung.ctx);
  while (!hung.events.includes('mark slow')) await new Promise(setImmediate);
  hung.abort.abort();
  await assert.rejects(taken);
  assert.deepEqual(hung.events.slice(-2), ['resume', 'disarm']);
});

test('a mark is told how long it may take, and whether somebody may still write', async () => {
  const cases: readonly [Partial<Writers>, boolean, { pauseFails?: boolean; armFails?: boolean }?][] = [
    [{ pausable: ['backend'] }, true],
    [{ idle: ['backend'] }, true],
    [{ pausable: ['backend'], free: ['worker'] }, false],
    [{ pausable: ['backend'], undeclared: [{ name: 'web', why: 'depends on db' }] }, false],
    [{ pausable: ['backend'] }, false, { pauseFails: true }],
    [{ pausable: ['backend'] }, false, { armFails: true }],
    [{}, false],
  ];
  for (const [writers, isQuiet, failures = {}] of cases) {
    const { options, ctx } = scene({ writers, ...failures, laterStates: { backend: 'stopped' } });
    const told: unknown[] = [];
    const store = options.prepared.get('store')!;
    const listening = {
      ...store,
      mark: (_signal: AbortSignal, terms: unknown) => Promise.resolve(void told.push(terms)),
    };
    await takeCut({ ...options, prepared: new Map([['store', listening]]) }, ctx);
    assert.deepEqual(told, [{ timeoutMs: 4000, isQuiet }], JSON.stringify(writers));
  }
});

test('what a component says of its own moment is in the reason', async () => {
  const { options, ctx } = scene({});
  const cut = await takeCut(options, ctx);
  const store = { ...options.prepared.get('store')!, pointInTime: 'own' as const };
  const files = { ...store, ownReason: 'it does not fit' };
  const reasonOf = (...captures: [string, PreparedCapture][]): string | undefined =>
    settledCut(cut, new Map(captures), new Set()).reason;
  assert.equal(reasonOf(['files', files]), 'files: it does not fit');
  assert.match(
    reasonOf(['store', store], ['files', files]) ?? '',
    /^the state of store is .*; files: it does not fit$/,
  );
});
