import assert from 'node:assert/strict';
import { mkdtemp, rm, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Runtime } from '../../src/ports/runtime.ts';
import { createGuardian } from '../../src/runtimes/guardian/index.ts';
import { createProcessRuntime, type ProcessWriterOptions } from '../../src/runtimes/process/index.ts';
import { testContext } from '../fixtures/context.ts';
import { startWriter, type TickingWriter } from '../fixtures/processes.ts';

/** One way of running writers `a` and `b`, which can be paused, and `broken`, whose pausing fails. */
interface Harness extends AsyncDisposable {
  readonly runtime: Runtime;
  readonly a: TickingWriter;
  readonly b: TickingWriter;
}

async function processHarness(how: 'signals' | 'commands'): Promise<Harness> {
  const root = await mkdtemp(join(tmpdir(), 'tars-runtimes-'));
  const [a, b] = await Promise.all([startWriter(root, 'a', how === 'signals'), startWriter(root, 'b')]);
  const writer = ({ pid, pidFile }: TickingWriter): ProcessWriterOptions =>
    how === 'signals'
      ? { pidFile }
      : { pause: ['kill', '-STOP', String(pid)], resume: ['kill', '-CONT', String(pid)] };
  const broken = { pause: ['false'], resume: ['true'] };
  const idle = { pidFile: join(root, 'idle.pid') };
  const patience = { stopTimeoutMs: 5000, startTimeoutMs: 5000 };
  const runtime = createProcessRuntime({
    services: {
      a: { ...patience, pidFile: a.pidFile, dependsOn: ['b'] },
      b: { ...patience, pidFile: b.pidFile, dependsOn: [] },
    },
    writers: { a: writer(a), b: writer(b), broken, idle },
  });
  return {
    runtime,
    a,
    b,
    async [Symbol.asyncDispose]() {
      await Promise.all([a[Symbol.asyncDispose](), b[Symbol.asyncDispose]()]);
      await rm(root, { recursive: true, force: true });
    },
  };
}

const harnesses: Readonly<Record<string, () => Promise<Harness>>> = {
  'process, by signals': () => processHarness('signals'),
  'process, by commands': () => processHarness('commands'),
};

for (const [name, create] of Object.entries(harnesses)) {
  describe(`runtime contract: ${name}`, () => {
    const ctx = testContext();

    test('discovering tells states, dependencies and abilities, and changes nothing', async () => {
      await using harness = await create();
      const { runtime, a } = harness;
      const services = new Map((await runtime.discover(ctx)).map((service) => [service.name, service]));
      assert.equal(services.get('a')?.state, 'running');
      assert.deepEqual(services.get('a')?.dependsOn, ['b']);
      assert.equal(services.get('a')?.writer, true);
      assert.equal(services.get('a')?.canPause, true);
      await a.ticks();
    });

    test('a pause holds every writer with all its processes until it is resumed, also twice', async () => {
      await using harness = await create();
      const { runtime, a, b } = harness;
      await runtime.pause(['a', 'b', 'idle'], ctx);
      assert.ok((await a.frozen()) && (await b.frozen()));
      const counts = [await a.count(), await b.count()];
      assert.deepEqual(
        (await runtime.discover(ctx)).slice(0, 2).map(({ state }) => state),
        ['paused', 'paused'],
      );
      assert.deepEqual([await a.count(), await b.count()], counts);
      await runtime.pause(['a', 'b', 'idle'], ctx);
      await runtime.resume(['a', 'b', 'idle']);
      await runtime.resume(['a', 'b', 'idle']);
      await Promise.all([a.ticks(), b.ticks()]);
    });

    test('when pausing one writer fails, the others are resumed before the error comes', async () => {
      await using harness = await create();
      const { runtime, a, b } = harness;
      await assert.rejects(runtime.pause(['a', 'broken', 'b'], ctx), { code: 'subprocess' });
      assert.ok(!(await a.frozen()) && !(await b.frozen()));
      await Promise.all([a.ticks(), b.ticks()]);
      await assert.rejects(runtime.pause(['a', 'unheard-of'], ctx), { code: 'configuration' });
      await a.ticks();
    });

    test('an interrupted pause leaves nobody frozen', async () => {
      await using harness = await create();
      const { runtime, a } = harness;
      await assert.rejects(runtime.pause(['a'], testContext(AbortSignal.abort())), { code: 'interrupted' });
      await a.ticks();
    });

    test('resume actions name every running writer; what they say resumes it', async () => {
      await using harness = await create();
      const { runtime, a } = harness;
      const [action, ...rest] = await runtime.resumeActions(['a', 'idle'], ctx);
      assert.deepEqual(rest, []);
      assert.ok(action);
      await runtime.pause(['a'], ctx);
      const armed = await createGuardian().arm([action], 1, ctx);
      await a.ticks();
      assert.equal(await armed.disarm(), true);
    });

    test('stopping a paused writer ends it', async () => {
      await using harness = await create();
      const { runtime, a } = harness;
      await runtime.pause(['b'], ctx);
      await runtime.stop('b', ctx);
      assert.equal((await runtime.discover(ctx)).find((service) => service.name === 'b')?.state, 'stopped');
      await a.ticks();
    });
  });
}

test('a writer is resumed even when its pid file has gone meanwhile, and a doubtful one is not touched', async () => {
  await using harness = await processHarness('signals');
  const { runtime, b } = harness;
  await runtime.pause(['b'], testContext());
  await unlink(b.pidFile);
  await runtime.resume(['b']);
  await b.ticks();
  await writeFile(b.pidFile, `${b.pid}\n`);
  await utimes(b.pidFile, new Date(0), new Date(0));
  await assert.rejects(runtime.pause(['b'], testContext()), { code: 'service-unavailable' });
  await runtime.resume(['b']);
  await b.ticks();
});
