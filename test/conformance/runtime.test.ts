import assert from 'node:assert/strict';
import { mkdtemp, rm, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Runtime } from '../../src/ports/runtime.ts';
import { connectEngine } from '../../src/runtimes/docker/engine/engine.ts';
import { createDockerRuntime } from '../../src/runtimes/docker/index.ts';
import { createGuardian } from '../../src/runtimes/guardian/index.ts';
import { createProcessRuntime, type ProcessWriterOptions } from '../../src/runtimes/process/index.ts';
import { testContext } from '../fixtures/context.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { startEngineProxy, type EngineProxy } from '../fixtures/docker/engine-proxy.ts';
import {
  startTickingContainers,
  type TickingContainers,
  type TickingService,
} from '../fixtures/docker/ticking-containers.ts';
import { startWriter, type TickingWriter } from '../fixtures/processes.ts';

/** One way of running writers `a` and `b`, which can be paused, `broken`, whose pausing fails, and `idle`, which does not run. */
interface Harness extends AsyncDisposable {
  readonly runtime: Runtime;
  readonly a: TickingService;
  readonly b: TickingService;
}

/** A signal only tells a process to stop: on a busy machine it does so later. */
const stopAndWait = 'kill -STOP $0; until grep -q "^State:.T" /proc/$0/status; do sleep 0.01; done';

async function processHarness(how: 'signals' | 'commands'): Promise<Harness & { readonly b: TickingWriter }> {
  const root = await mkdtemp(join(tmpdir(), 'tars-runtimes-'));
  const [a, b] = await Promise.all([startWriter(root, 'a', how === 'signals'), startWriter(root, 'b')]);
  const writer = ({ pid, pidFile }: TickingWriter): ProcessWriterOptions =>
    how === 'signals'
      ? { pidFile }
      : { pause: ['sh', '-c', stopAndWait, String(pid)], resume: ['kill', '-CONT', String(pid)] };
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

const docker = await dockerForTests();
let started: Promise<DockerStage> | undefined;

interface DockerStage {
  readonly containers: TickingContainers;
  readonly proxy: EngineProxy;
}

const stage = (): Promise<DockerStage> => (started ??= startDockerStage());

/** Containers take long to create: all tests have the same ones, which run again for each. */
async function dockerHarness(): Promise<Harness> {
  const { containers, proxy } = await stage();
  await containers.up();
  const { a, b } = containers;
  const runtime = await runtimeThrough(proxy);
  return { runtime, a, b, [Symbol.asyncDispose]: () => Promise.resolve() };
}

async function runtimeThrough({ host }: Pick<EngineProxy, 'host'>): Promise<Runtime> {
  const { containers } = await stage();
  const writer = { writer: true, dependsOn: [], stopTimeoutMs: undefined };
  return createDockerRuntime({
    ...{ engine: await connectEngine({ host }), address: { host }, project: containers.small.name },
    services: new Map(['a', 'b', 'broken', 'idle'].map((name) => [name, writer])),
    stores: new Set(),
    kinds: [],
  });
}

/** The container of `broken` ends between being listed and being paused. */
async function startDockerStage(): Promise<DockerStage> {
  const { engine } = docker;
  const containers = await startTickingContainers(engine, 'rt-');
  const proxy = await startEngineProxy(engine.host, {
    async before({ path }) {
      if (!path.endsWith('/pause')) return undefined;
      const broken = await containers.small.project.container('broken');
      if (path.includes(broken)) await engine.docker(['kill', broken]);
      return undefined;
    },
  });
  return { containers, proxy };
}

after(async () => {
  const used = await started;
  await used?.proxy[Symbol.asyncDispose]();
  await used?.containers[Symbol.asyncDispose]();
});

interface Way {
  readonly create: () => Promise<Harness>;
  readonly skip?: string | false;
}

const harnesses: Readonly<Record<string, Way>> = {
  'process, by signals': { create: () => processHarness('signals') },
  'process, by commands': { create: () => processHarness('commands') },
  docker: { create: dockerHarness, skip: docker.skip },
};

for (const [name, { create, skip = false }] of Object.entries(harnesses)) {
  describe(`runtime contract: ${name}`, { skip }, () => {
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

describe('docker runtime', { skip: docker.skip }, () => {
  const ctx = testContext();
  const idsOf = async (service: string): Promise<string[]> => {
    const { small } = await stage().then(({ containers }) => containers);
    const labels = [`project=${small.name}`, `service=${service}`];
    const filters = labels.flatMap((label) => ['--filter', `label=com.docker.compose.${label}`]);
    return (await docker.engine.docker(['ps', '--quiet', '--no-trunc', ...filters])).split('\n');
  };

  test('a container that somebody else paused is neither paused nor resumed; the others of its service are', async () => {
    await using harness = await dockerHarness();
    const { runtime, a, b } = harness;
    const [theirs = '', ours = ''] = await idsOf('b');
    const [all] = await idsOf('a');
    const pausedNow = async (id: string): Promise<string> =>
      docker.engine.docker(['inspect', '--format', '{{.State.Paused}}', id]);
    await docker.engine.docker(['pause', theirs]);
    try {
      const actions = await runtime.resumeActions(['a', 'b'], ctx);
      assert.deepEqual(
        new Set(actions.map((action) => action.kind === 'unpause' && action.containerId)),
        new Set([all, ours]),
      );
      await runtime.pause(['a', 'b'], ctx);
      assert.ok((await a.frozen()) && (await b.frozen()));
      await runtime.resume(['a', 'b']);
      assert.deepEqual([await pausedNow(theirs), await pausedNow(ours)], ['true', 'false']);
      await a.ticks();
    } finally {
      await docker.engine.docker(['unpause', theirs]);
    }
  });

  test('a container that runs only since the guardian learned what to resume is not paused', async () => {
    await using harness = await dockerHarness();
    const { runtime, a, b } = harness;
    const [late = ''] = await idsOf('b');
    await docker.engine.docker(['pause', late]);
    try {
      await runtime.resumeActions(['a', 'b'], ctx);
    } finally {
      await docker.engine.docker(['unpause', late]);
    }
    await assert.rejects(runtime.pause(['a', 'b'], ctx), /The writer b was started just now/);
    await Promise.all([a.ticks(), b.ticks()]);
    await runtime.resumeActions(['a', 'b'], ctx);
    await runtime.pause(['a', 'b'], ctx);
    assert.ok((await a.frozen()) && (await b.frozen()));
    await runtime.resume(['a', 'b']);
  });

  test('a pause whose answer is lost is taken back', async () => {
    await using harness = await dockerHarness();
    const { runtime, a, b } = harness;
    await using proxy = await startEngineProxy(docker.engine.host, {
      after: ({ path }) => (path.endsWith('/pause') ? Promise.reject(new Error('lost')) : Promise.resolve()),
    });
    const through = await runtimeThrough(proxy);
    await assert.rejects(through.pause(['a', 'b'], ctx), { code: 'service-unavailable' });
    assert.ok(!(await a.frozen()) && !(await b.frozen()));
    await runtime.resume(['a', 'b']);
    await Promise.all([a.ticks(), b.ticks()]);
  });

  test('a container that the kernel could not freeze at once is tried again, a few times', async () => {
    await using harness = await dockerHarness();
    const { a, b } = harness;
    const [first = ''] = await idsOf('b');
    const body = JSON.stringify({ message: 'OCI runtime pause failed: unable to freeze: unknown' });
    const head = `Content-Type: application/json\r\nContent-Length: ${body.length}`;
    const unable = `HTTP/1.1 500 Internal Server Error\r\n${head}\r\n\r\n${body}`;
    let failures = 2;
    await using proxy = await startEngineProxy(docker.engine.host, {
      before: ({ path }) =>
        Promise.resolve(path.includes(`${first}/pause`) && failures-- > 0 ? unable : undefined),
    });
    const runtime = await runtimeThrough(proxy);
    await runtime.pause(['a', 'b'], ctx);
    assert.ok((await a.frozen()) && (await b.frozen()));
    await runtime.resume(['a', 'b']);
    failures = Infinity;
    await assert.rejects(runtime.pause(['a', 'b'], ctx), { code: 'subprocess', message: /unable to freeze/ });
    assert.ok(!(await a.frozen()) && !(await b.frozen()));
    await Promise.all([a.ticks(), b.ticks()]);
  });

  test('the guardian goes on trying until the Engine answers', async () => {
    await using harness = await dockerHarness();
    const { runtime, a } = harness;
    let refused = 0;
    await using proxy = await startEngineProxy(docker.engine.host, {
      before: ({ path }) =>
        path.endsWith('/unpause') && ++refused < 12
          ? Promise.reject(new Error('down'))
          : Promise.resolve(undefined),
    });
    const [action] = await (await runtimeThrough(proxy)).resumeActions(['a'], ctx);
    assert.ok(action);
    await runtime.pause(['a'], ctx);
    const armed = await createGuardian().arm([action], 1, ctx);
    await a.ticks();
    assert.equal(await armed.disarm(), true);
    assert.equal(refused, 12);
  });

  test('an Engine that is not there, or may not be used, is said with the hint', async () => {
    const nowhere = await runtimeThrough({ host: 'unix:///nonexistent/docker.sock' });
    await assert.rejects(nowhere.discover(ctx), {
      code: 'service-unavailable',
      message: /does not answer \(ENOENT\)/,
      hint: /DOCKER_HOST/,
    });
  });
});
