import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createRedisComponent } from '../../src/components/redis/index.ts';
import { startRedis, type PrivateRedis } from '../../src/demo/servers/redis.ts';
import { RestoreRefusedError, TarsError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { SwapRecord } from '../../src/model/restore-plan.ts';
import type { Component, Staged } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';
import { clientOf, disposable, dumpAll, loadCorpus } from '../fixtures/redis.ts';

const ctx = testContext();
const seed = 20_261_124;

interface Setup {
  readonly root: string;
  readonly server: PrivateRedis;
  readonly component: Component;
}

function componentFor(server: PrivateRedis, root: string): Component {
  return createRedisComponent({
    name: 'redis',
    service: 'redis',
    host: server.host,
    port: server.port,
    username: undefined,
    password: server.password,
    dataDir: server.dataDir,
    scratchDir: join(root, 'scratch'),
  });
}

/** Captures into `out`; `inPause` runs right after the mark. */
async function capture(
  component: Component,
  out: string,
  inPause: () => void = () => undefined,
): Promise<ComponentManifest> {
  await using prepared = await component.prepare(ctx);
  assert.equal(prepared.pointInTime, 'cut');
  await prepared.mark(ctx.signal);
  inPause();
  await prepared.settle(ctx);
  const sink = createDirectorySink(out, { encrypted: true });
  const report = await prepared.capture(sink, ctx);
  return {
    name: component.name,
    kind: component.kind,
    outcome: 'captured',
    facts: { ...report.facts },
    artifacts: [...sink.artifacts],
  };
}

async function stage(
  component: Component,
  from: ComponentManifest,
  out: string,
  restoreId: string,
): Promise<Staged> {
  const planned = await component.planRestore(from, { restoreConfig: false, restoreId }, ctx, noArtifacts);
  return planned.stage(createDirectorySource(out), ctx);
}

/** Sets a counter in database 1 as fast as the server takes it, until stopped; may be held. */
function writeLoad(server: PrivateRedis): {
  hold(): Promise<number>;
  resume(): void;
  stop(): Promise<number>;
} {
  const client = clientOf(server, 1);
  let acknowledged = 0;
  let stopped = false;
  let gate = Promise.resolve();
  let open = (): void => undefined;
  let inFlight = Promise.resolve();
  const run = async (): Promise<void> => {
    while (!stopped) {
      await gate;
      const step = client.set(`w:${acknowledged}`, `value ${acknowledged}`).then(() => {
        acknowledged++;
      });
      inFlight = step;
      await step;
    }
  };
  const running = run();
  return {
    async hold() {
      gate = new Promise((resolve) => {
        open = resolve;
      });
      await inFlight;
      return acknowledged;
    },
    resume: () => {
      open();
    },
    async stop() {
      stopped = true;
      open();
      await running;
      client.disconnect();
      return acknowledged;
    },
  };
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 30_000; !(await condition());) {
    assert.ok(Date.now() < deadline, `${what} did not come true`);
    await ctx.clock.sleep(10, ctx.signal);
  }
}

for (const settings of [
  { appendOnly: true, password: 'pass-word-1' },
  { appendOnly: false, lines: ['maxmemory-policy allkeys-lfu', 'save ""'] },
]) {
  describe(`Redis with appendonly ${settings.appendOnly ? 'yes' : 'no'}`, () => {
    let setup: Setup;
    let captured: ComponentManifest;
    let original: Map<string, string>;
    let out: string;
    let acknowledgedBefore = 0;

    before(async () => {
      const root = await mkdtemp(join(tmpdir(), 'tars-redis-'));
      const server = await startRedis(root, ctx, settings);
      setup = { root, server, component: componentFor(server, root) };
      out = join(root, 'out');
      await loadCorpus(server, seed);
      const load = writeLoad(server);
      await until('100 writes', () =>
        Promise.resolve(load.hold().then((count) => (load.resume(), count > 100))),
      );
      await using prepared = await setup.component.prepare(ctx);
      acknowledgedBefore = await load.hold();
      original = await dumpAll(server);
      await prepared.mark(ctx.signal);
      load.resume();
      await prepared.settle(ctx);
      const sink = createDirectorySink(out, { encrypted: true });
      const report = await prepared.capture(sink, ctx);
      assert.ok((await load.stop()) > acknowledgedBefore, 'the load went on after the mark');
      captured = {
        name: 'redis',
        kind: 'redis',
        outcome: 'captured',
        facts: { ...report.facts },
        artifacts: [...sink.artifacts],
      };
    });
    after(async () => {
      await setup.server.stop();
      await rm(setup.root, { recursive: true, force: true });
    });

    test('nothing is left in the scratch directory', async () => {
      assert.deepEqual(await readdir(join(setup.root, 'scratch')), []);
    });

    test('writes after the mark are found by the live verification', async () => {
      const findings = await setup.component.verify(captured, ctx, noArtifacts);
      assert.deepEqual(
        findings.map(({ code }) => code),
        ['key-count-differs'],
      );
    });

    test('what was there at the mark comes back after the data directory is lost, and nothing else', async () => {
      const { server, component } = setup;
      await server.stop();
      await rm(server.dataDir, { recursive: true });
      const staged = await stage(component, captured, out, 'r1');
      assert.deepEqual(await staged.verify(ctx), []);
      await staged.swap(ctx);
      await server.start();
      await component.ready(ctx);
      const restored = await dumpAll(server);
      const counters = [...restored.keys()].filter((key) => key.startsWith('1 w:'));
      assert.equal(counters.length, acknowledgedBefore);
      assert.deepEqual(restored, original, `seed ${seed}`);
      assert.deepEqual(await component.verify(captured, ctx, noArtifacts), []);
    });

    test('a restored server keeps what is written to it over a restart', async () => {
      const { server } = setup;
      await using client = disposable(clientOf(server, 2));
      await client.redis.set('after', 'restore');
      await client.redis.call('SAVE');
      await server.stop();
      await server.start();
      const restored = await dumpAll(server);
      assert.ok(restored.delete('2 after'));
      assert.deepEqual(restored, original);
      await using again = disposable(clientOf(server, 2));
      await again.redis.del('after');
    });

    test('a second restore on top replaces later data, and undo brings that back', async () => {
      const { server, component } = setup;
      await using client = disposable(clientOf(server));
      await client.redis.set('later', '1');
      await client.redis.del('text');
      const later = await dumpAll(server);
      const staged = await stage(component, captured, out, 'r2');
      await assert.rejects(
        staged.swap(ctx),
        (error) => error instanceof TarsError && /still runs/.test(error.message),
      );
      await client.redis.call('SAVE');
      await server.stop();
      await staged.swap(ctx);
      await staged.discard(ctx);
      await server.start();
      assert.deepEqual(await dumpAll(server), original);
      await server.stop();
      const generation = component.generation(JSON.parse(JSON.stringify(staged.record)) as SwapRecord);
      await generation.undo(ctx);
      await generation.undo(ctx);
      await server.start();
      assert.deepEqual(await dumpAll(server), later);
      assert.deepEqual(
        (await readdir(server.dataDir)).filter((name) => name.startsWith('.tars') && !name.includes('r1')),
        [],
      );
      const codes = (await component.verify(captured, ctx, noArtifacts)).map(({ code }) => code);
      assert.deepEqual(codes, ['key-content-differs']);
    });

    test('the previous data goes when it is discarded', async () => {
      const { server, component } = setup;
      const staged = await stage(component, captured, out, 'r3');
      await server.stop();
      await staged.swap(ctx);
      await component.generation(staged.record).discardPrevious(ctx);
      await server.start();
      assert.deepEqual(await dumpAll(server), original);
      assert.deepEqual(
        (await readdir(server.dataDir)).filter((name) => name.endsWith('r3')),
        [],
      );
    });

    test('a crash at any step of the swap can be undone, or the swap finished', async () => {
      const { server, component, root } = setup;
      await server.stop();
      const pristine = join(root, 'pristine');
      await cp(server.dataDir, pristine, { recursive: true });
      const names = settings.appendOnly ? ['dump.rdb', 'appendonlydir'] : ['dump.rdb'];
      for (const finish of [false, true]) {
        for (let steps = 0; steps <= 1 + 2 * names.length; steps++) {
          const staged = await stage(component, captured, out, 'r4');
          await crashAfter(steps, server.dataDir, 'r4', names);
          const what = `${steps} steps, ${finish ? 'finished' : 'undone'}`;
          if (finish) {
            await staged.swap(ctx);
            assert.deepEqual(
              await readFile(join(server.dataDir, 'dump.rdb')),
              await readFile(join(out, 'redis/dump.rdb')),
              what,
            );
          }
          const generation = component.generation(staged.record);
          await generation.undo(ctx);
          await generation.undo(ctx);
          assert.deepEqual(await treeOf(server.dataDir), await treeOf(pristine), what);
        }
      }
      await server.start();
    });

    test('an RDB that appears while the server shuts down is kept as previous data', async () => {
      const { server, component } = setup;
      await server.stop();
      const rdb = join(server.dataDir, 'dump.rdb');
      await rename(rdb, `${rdb}.away`);
      const staged = await stage(component, captured, out, 'r5');
      await rename(`${rdb}.away`, rdb);
      const live = await readFile(rdb);
      await staged.swap(ctx);
      await component.generation(staged.record).undo(ctx);
      assert.deepEqual(await readFile(rdb), live);
      await server.start();
    });

    test('a damaged or truncated RDB is refused before the swap, the live data untouched', async () => {
      const { server, component, root } = setup;
      const pristine = await treeOf(server.dataDir);
      const good = await readFile(join(out, 'redis/dump.rdb'));
      const bad = join(root, 'bad');
      await mkdir(join(bad, 'redis'), { recursive: true });
      const damaged = [0, 9, 200, good.length >> 1, good.length - 9, good.length - 1].map((at) => {
        const copy = Buffer.from(good);
        copy[at] = (copy[at] ?? 0) ^ 0x10;
        return copy;
      });
      for (const content of [
        ...damaged,
        good.subarray(0, -1),
        good.subarray(0, 5000),
        Buffer.concat([good, good]),
      ]) {
        await writeFile(join(bad, 'redis/dump.rdb'), content);
        const staged = await stage(component, captured, bad, 'r6');
        await assert.rejects(staged.verify(ctx), (error) => error instanceof TarsError);
        await staged.discard(ctx);
      }
      assert.deepEqual(await treeOf(server.dataDir), pristine);
    });

    test('a whole RDB with other content than was captured is a finding', async () => {
      const { component, server, root } = setup;
      await using client = disposable(clientOf(server, 15));
      await client.redis.zincrby('zset:large', 0.25, 'm7');
      const other = join(root, 'other');
      await capture(component, other);
      const staged = await stage(component, captured, other, 'r7');
      assert.deepEqual(
        (await staged.verify(ctx)).map(({ code, message }) => [code, /database 15/.test(message)]),
        [['key-content-differs', true]],
      );
      await staged.discard(ctx);
    });

    test('stock redis-server alone starts on the RDB', async () => {
      const directory = join(setup.root, 'stock');
      await mkdir(join(directory, 'data'), { recursive: true });
      await cp(join(out, 'redis/dump.rdb'), join(directory, 'data/dump.rdb'));
      await using stock = await startRedis(directory, ctx);
      assert.deepEqual(await dumpAll(stock), original);
    });

    test('a newer RDB version is refused, the server running or not', async () => {
      const { component, server } = setup;
      const newer = {
        ...captured,
        facts: { ...captured.facts, rdb: { magic: 'REDIS', version: 80, checksum: 'verified' } },
      };
      const plan = (): Promise<unknown> =>
        component.planRestore(newer, { restoreConfig: false, restoreId: 'r8' }, ctx, noArtifacts);
      const refused = (error: unknown): boolean =>
        error instanceof RestoreRefusedError && /does not load REDIS RDB version 80/.test(error.message);
      await assert.rejects(plan(), refused);
      await server.stop();
      await assert.rejects(plan(), refused);
      await server.start();
    });
  });
}

/** Carries out the first `steps` of a swap as {@link Staged.swap} would: the note, then two renames an entry. */
async function crashAfter(
  steps: number,
  dataDir: string,
  id: string,
  names: readonly string[],
): Promise<void> {
  const [staged, previous] = [join(dataDir, `.tars-new-${id}`), join(dataDir, `.tars-prev-${id}`)];
  if (steps === 0) return;
  const swaps = names.map((name) => ({
    live: join(dataDir, name),
    staged: join(staged, name),
    previous: join(previous, name),
    hadLive: true,
  }));
  await mkdir(previous, { mode: 0o700 });
  await writeFile(join(previous, 'swap.json'), JSON.stringify(swaps));
  const renames = swaps.flatMap((swap) => [
    [swap.live, swap.previous],
    [swap.staged, swap.live],
  ]);
  for (const [from, to] of renames.slice(0, steps - 1)) await rename(from ?? '', to ?? '');
}

/** Every path below `dir` with its content. */
async function treeOf(dir: string): Promise<Map<string, string>> {
  const tree = new Map<string, string>();
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    tree.set(
      path.slice(dir.length),
      entry.isFile() ? (await readFile(path)).toString('base64') : 'directory',
    );
  }
  return tree;
}
