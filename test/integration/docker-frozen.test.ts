import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/demo/servers/common.ts';
import { createRemoteChroma } from '../../src/components/remote/stores.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { Component, PlannedRestore } from '../../src/ports/component.ts';
import type { Bytes } from '../../src/ports/artifacts.ts';
import type { NewEntry, OpenVolume, StoreHold, StoreVolume, VolumeFile } from '../../src/ports/volume.ts';
import { connectEngine, type Engine } from '../../src/runtimes/docker/engine/engine.ts';
import { createContainerHold } from '../../src/runtimes/docker/volume/volume-hold.ts';
import { createDockerVolume } from '../../src/runtimes/docker/volume/volume.ts';
import { createGuardian } from '../../src/runtimes/guardian/index.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { ChromaLoad, differencesFromLedger, type Ledger } from '../fixtures/chroma-load.ts';
import { testContext } from '../fixtures/context.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const { skip } = docker;
const ctx = testContext();
const { signal } = ctx;
const image = 'chromadb/chroma:1.0.1-tars-test';

interface Bench extends AsyncDisposable {
  readonly root: string;
  readonly id: string;
  readonly url: string;
  readonly volume: StoreVolume;
  readonly hold: StoreHold;
  readonly state: () => Promise<string>;
  readonly ready: () => Promise<void>;
}

async function startBench(): Promise<Bench> {
  await using cleanup = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), 'tars-frozen-'));
  cleanup.defer(() => rm(root, { recursive: true, force: true }));
  const name = `vx-frozen-${randomBytes(4).toString('hex')}`;
  const { engine: tool } = docker;
  cleanup.defer(async () => {
    await tool.docker(['rm', '--force', name]);
    await tool.docker(['volume', 'rm', '--force', name]);
  });
  const port = await freePort();
  const places = ['-v', `${name}:/data`, '-p', `127.0.0.1:${port}:8000`];
  const id = await tool.docker(['run', '--detach', '--name', name, ...places, image]);
  const inspect = (format: string): Promise<string> => tool.docker(['inspect', '--format', format, id]);
  const url = `http://127.0.0.1:${port}`;
  const mount = {
    ...{
      type: 'volume' as const,
      volume: name,
      source: '/unreachable',
      destination: '/data',
      readOnly: false,
    },
  };
  const container = {
    ...{
      id,
      name,
      service: 'chroma',
      image,
      imageId: await inspect('{{.Image}}'),
      state: 'running' as const,
    },
    ...{ health: undefined, environment: {}, argv: [], mounts: [mount], publishedPorts: new Map() },
    ...{
      exposedPorts: [],
      addresses: [],
      addresses6: [],
      hostNetwork: false,
      labels: {},
      stopGraceMs: undefined,
    },
  };
  const engine: Engine = await connectEngine({ host: tool.host });
  const owned = cleanup.move();
  return {
    ...{ root, id, url },
    volume: createDockerVolume(engine, { container, mount, path: '/data' }),
    hold: createContainerHold(engine, { host: tool.host }, container, createGuardian()),
    state: () => inspect('{{.State.Status}}'),
    ready: async () => {
      const at = `${url}/api/v2/heartbeat`;
      await eventually(
        'Chroma answers',
        () =>
          fetch(at).then(
            ({ ok }) => ok,
            () => false,
          ),
        60_000,
      );
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function chromaOf(bench: Bench, changes: Partial<Pick<Bench, 'volume' | 'hold'>> = {}): Component {
  const { volume, hold } = { ...bench, ...changes };
  const options = { name: 'chroma', service: 'chroma', headers: {}, scratchDir: join(bench.root, 'scratch') };
  return createRemoteChroma({ ...options, url: bench.url }, { volume, hold });
}

interface Captured {
  readonly manifest: ComponentManifest;
  readonly ledger: Ledger;
  readonly directory: string;
}

async function captureUnderLoad(
  bench: Bench,
  component: Component,
  load: ChromaLoad,
  goesOn = true,
): Promise<Captured> {
  const directory = await mkdtemp(join(bench.root, 'snapshot-'));
  await using prepared = await component.prepare(ctx);
  await load.pause();
  await prepared.mark(signal);
  const ledger = load.acknowledged();
  if (goesOn) load.resume();
  await prepared.settle(ctx);
  assert.equal(await bench.state(), 'running', 'as soon as it is settled');
  const sink = createDirectorySink(directory, { encrypted: true });
  const report = await prepared.capture(sink, ctx);
  const manifest: ComponentManifest = {
    ...{ name: 'chroma', kind: 'chroma', outcome: 'captured', pointInTime: prepared.pointInTime },
    ...{ method: report.method, writesBlockedMs: report.writesBlockedMs },
    facts: JSON.parse(JSON.stringify(report.facts)) as Record<string, unknown>,
    artifacts: [...sink.artifacts],
  };
  return { manifest, ledger, directory };
}

/** The same volume, opened with some of what it does done otherwise. */
function changed(volume: StoreVolume, changes: (open: OpenVolume) => Partial<OpenVolume>): StoreVolume {
  return {
    ...volume,
    async open(access, openCtx) {
      const open = await volume.open(access, openCtx);
      return {
        list: (stop) => open.list(stop),
        read: (path, stop) => open.read(path, stop),
        hashes: (path, stop) => open.hashes(path, stop),
        write: (entries, stop) => open.write(entries, stop),
        remove: (path, stop) => open.remove(path, stop),
        swap: (exchange, stop) => open.swap(exchange, stop),
        undo: (exchange, stop) => open.undo(exchange, stop),
        discardPrevious: (exchange, stop) => open.discardPrevious(exchange, stop),
        [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
        ...changes(open),
      };
    },
  };
}

/** Chroma's tables are read only half while `torn` says so. */
const tearing = (volume: StoreVolume, torn: () => boolean): StoreVolume =>
  changed(volume, (open) => ({
    async read(path, stop) {
      const file = await open.read(path, stop);
      return file === undefined || !torn() || path !== 'chroma.sqlite3' ? file : halfOf(file);
    },
  }));

/** One bit of Chroma's tables changes on the way into the volume. */
const flipping = (volume: StoreVolume): StoreVolume =>
  changed(volume, (open) => ({
    write: (entries, stop) => open.write(flippedEntries(entries), stop),
  }));

async function* flippedEntries(entries: AsyncIterable<NewEntry>): AsyncGenerator<NewEntry> {
  for await (const entry of entries)
    yield entry.body !== undefined && entry.path.endsWith('/chroma.sqlite3')
      ? { ...entry, body: flipped(entry.body) }
      : entry;
}

async function* flipped(body: Bytes): Bytes {
  let first = true;
  for await (const chunk of body) {
    const copy = Buffer.from(chunk);
    if (first) copy[99]! ^= 1;
    first = false;
    yield copy;
  }
}

function halfOf(file: VolumeFile): VolumeFile {
  return {
    ...file,
    body: (async function* () {
      let leftBytes = Math.floor(file.sizeBytes / 2);
      for await (const chunk of file.body) {
        yield chunk.subarray(0, leftBytes);
        leftBytes = Math.max(0, leftBytes - chunk.length);
      }
    })(),
  };
}

test('Chroma behind an Engine is captured hot', { skip }, async (t) => {
  await using bench = await startBench();
  await bench.ready();
  const load = new ChromaLoad(bench.url, 7);
  await load.seedCollections(1200);
  load.start();
  try {
    await t.test('frozen for a moment, with everything acknowledged before it', async () => {
      const component = chromaOf(bench);
      const captured = await captureUnderLoad(bench, component, load);
      assert.equal(captured.manifest.method, 'physical-frozen');
      t.diagnostic(`blocked ${captured.manifest.writesBlockedMs} ms`);
      await load.pause();
      const planFor = (store: Component): Promise<PlannedRestore> =>
        store.planRestore(captured.manifest, { restoreConfig: false, restoreId: 'r1' }, ctx, noArtifacts);
      const planned = await planFor(component);
      const source = createDirectorySource(captured.directory);
      const damaged = await planFor(chromaOf(bench, { volume: flipping(bench.volume) }));
      await assert.rejects(
        damaged.stage(source, ctx),
        /chroma\.sqlite3 did not arrive completely in \/data in the volume/,
      );
      assert.match(planned.plan.steps.join('\n'), /beside \/data in the volume vx-frozen/);
      const staged = await planned.stage(source, ctx);
      assert.deepEqual(await staged.verify(ctx), []);
      await assert.rejects(staged.swap(ctx), /still runs/);
      await docker.engine.docker(['stop', bench.id]);
      await staged.swap(ctx);
      await docker.engine.docker(['start', bench.id]);
      await bench.ready();
      assert.deepEqual(await differencesFromLedger(bench.url, captured.ledger), []);
      await docker.engine.docker(['stop', bench.id]);
      await component.generation(staged.record).undo(ctx);
      await docker.engine.docker(['start', bench.id]);
      await bench.ready();
      assert.deepEqual(await differencesFromLedger(bench.url, load.acknowledged()), []);
    });

    await t.test('again when a copy is torn, at last stopped; never left held', async () => {
      for (const tornAttempts of [1, 2]) {
        let begun = 0;
        const counting: StoreHold = {
          async prepare(way, holdCtx) {
            const held = await bench.hold.prepare(way, holdCtx);
            return {
              get heldMs() {
                return held.heldMs;
              },
              begin: (stop) => (begun++, held.begin(stop)),
              end: () => held.end(),
              [Symbol.asyncDispose]: () => held[Symbol.asyncDispose](),
            };
          },
        };
        const volume = tearing(bench.volume, () => begun > 0 && begun <= tornAttempts);
        const component = chromaOf(bench, { volume, hold: counting });
        load.resume();
        // A server that is stopped refuses its writers.
        await bench.ready();
        // Nobody writes meanwhile, but Chroma may be writing down what it took before: that tears a copy by itself.
        const { manifest } = await captureUnderLoad(bench, component, load, false);
        assert.ok(begun > tornAttempts && begun <= 3, `${begun} attempts`);
        assert.equal(manifest.pointInTime, 'own');
        assert.equal(manifest.method, begun === 3 ? 'physical-stopped' : 'physical-frozen');
        await bench.ready();
      }
      assert.deepEqual(await readdir(join(bench.root, 'scratch')), []);
    });

    await t.test('and goes on by itself when tars is killed while it is held', async () => {
      for (const way of ['freeze', 'stop']) {
        const script = fileURLToPath(new URL('../fixtures/docker/holding-parent.ts', import.meta.url));
        const args = [script, docker.engine.host, bench.id, way];
        const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
        await once(child.stdout, 'data');
        assert.equal(await bench.state(), way === 'freeze' ? 'paused' : 'exited');
        child.kill('SIGKILL');
        await eventually(`It runs after ${way}`, async () => (await bench.state()) === 'running');
      }
    });
    await bench.ready();
    assert.deepEqual(await differencesFromLedger(bench.url, load.acknowledged()), []);
  } finally {
    await load.stop();
  }
});
