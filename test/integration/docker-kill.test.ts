import assert from 'node:assert/strict';
import { execa } from 'execa';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { campaignSeed, counted, isCampaign, seededRandom } from '../fixtures/campaign.ts';
import { cliPath } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { startEngineProxy, type EngineProxy, type EngineRequest } from '../fixtures/docker/engine-proxy.ts';
import { compareWithLedger } from '../fixtures/docker/ledger.ts';
import { remains, startProject, type StartedProject } from '../fixtures/docker/project.ts';
import { tarsOn, type TarsOn } from '../fixtures/docker/tars-on.ts';
import { wholeCut } from '../fixtures/docker/whole-cut.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const { skip } = docker;

const kills = counted(2, 50);
/** More than a busy machine needs for a cut, and less than a person would. */
const pauseMaxMs = 20_000;

/** Where tars is killed: just after the Engine did something for it, or just before it would. */
interface Aim {
  readonly moment: 'before' | 'after';
  readonly matches: (request: EngineRequest) => boolean;
  readonly delayMs?: number;
}

const requestOf = (operation: string, containerId: string): Aim['matches'] => {
  return ({ method, path }) =>
    method === 'POST' && path.startsWith(`/containers/${containerId}/${operation}`);
};

/** What is called with every request while it is to hit something. */
interface Target {
  shot?: (request: EngineRequest, moment: Aim['moment']) => Promise<void>;
}

/** `tars` on a project, on a way to the Engine that kills it. */
class Killing implements AsyncDisposable {
  readonly tars: TarsOn;
  readonly #proxy: EngineProxy;
  readonly #target: Target;

  private constructor(tars: TarsOn, proxy: EngineProxy, target: Target) {
    this.tars = tars;
    this.#proxy = proxy;
    this.#target = target;
  }

  static async on(project: StartedProject): Promise<Killing> {
    const target: Target = {};
    const proxy = await startEngineProxy(docker.engine.host, {
      before: async (request) => {
        await target.shot?.(request, 'before');
        return undefined;
      },
      after: async (request) => target.shot?.(request, 'after'),
    });
    const settings = { docker: { project: project.name, host: proxy.host }, pause_max_ms: pauseMaxMs };
    return new Killing(await tarsOn(project, { compose: 'v2', settings }), proxy, target);
  }

  /** Runs `tars` and kills it there. @throws when it was not hit */
  async kill(args: readonly string[], { moment, matches, delayMs = 0 }: Aim): Promise<void> {
    const config = ['--config', join(this.tars.directory, 'tars.yaml')];
    const child = execa(process.execPath, [cliPath, ...args, ...config], {
      ...{ reject: false, all: true, stdin: 'ignore' },
      env: { PATH: this.tars.path },
    });
    this.#target.shot = async (request, now) => {
      if (now !== moment || !matches(request)) return;
      delete this.#target.shot;
      await delay(delayMs);
      child.kill('SIGKILL');
      await child;
      // What it still wanted of the Engine died with it.
      if (now === 'before') throw new Error('tars is gone');
    };
    const { signal, all } = await child;
    delete this.#target.shot;
    assert.equal(signal, 'SIGKILL', `tars ${args.join(' ')} was not hit: ${all}`);
  }

  async snapshotCount(): Promise<number> {
    return (JSON.parse((await this.tars.ok(['snapshots', '--json'])).stdout) as unknown[]).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.tars[Symbol.asyncDispose]();
    await this.#proxy[Symbol.asyncDispose]();
  }
}

const stateOf = async (project: StartedProject, service: string): Promise<string> =>
  project.docker('inspect', '--format', '{{.State.Status}}', await project.container(service));

interface Scene {
  readonly t: TestContext;
  readonly project: StartedProject;
  readonly killing: Killing;
}

test('kill -9 of tars on a project that writes', { skip }, async (t) => {
  await using project = await startProject({
    ...{ engine: docker.engine, prefix: 'dk-', composeVersion: 'v2', file: 'tars-home' },
  });
  await using killing = await Killing.on(project);
  const scene: Scene = { t, project, killing };
  await t.test(
    `while the backend is paused, ${kills} times: it runs again without anyone's help, and nothing else was stopped`,
    () => whilePaused(scene),
  );
  await t.test(
    'while services are stopped for a restore: the next tars, whatever its verb, says so and starts them',
    () => whileStopped(scene),
  );
  await t.test(
    'while containers are created: the next tars, whatever its verb, says so and removes them; a restore works',
    () => whileCreating(scene),
  );
});

async function whilePaused({ t, project, killing }: Scene): Promise<void> {
  const backend = await project.container('backend');
  const startedAt = (): Promise<string> =>
    project.docker('inspect', '--format', '{{.State.StartedAt}} {{.RestartCount}}', backend);
  const started = await startedAt();
  const random = seededRandom(campaignSeed);
  const heldMs: number[] = [];
  for (let n = 0; n < kills; n++) {
    // Before the marks, or when all stores are marked and hold what they hold for it.
    const aim: Aim =
      n % 2 === 0
        ? { moment: 'after', matches: requestOf('pause', backend), delayMs: Math.round(random() * 200) }
        : { moment: 'before', matches: requestOf('unpause', backend) };
    await killing.kill(['backup'], aim);
    const killedMs = performance.now();
    const what = `the backend runs again after kill ${n} (${aim.moment}, seed ${campaignSeed})`;
    await eventually(what, async () => (await stateOf(project, 'backend')) === 'running', pauseMaxMs);
    heldMs.push(Math.round(performance.now() - killedMs));
    await project.writesOn(3);
  }
  heldMs.sort((a, b) => a - b);
  t.diagnostic(
    `${kills} kills: paused on for median ${heldMs[heldMs.length >> 1]} ms, maximum ${heldMs.at(-1)} ms`,
  );
  assert.equal(await startedAt(), started, 'it was never restarted');
  assert.equal(await killing.snapshotCount(), 0);
  await wholeCut(async () => {
    await killing.tars.ok(['backup']);
    return killing.tars.manifest();
  });
}

async function whileStopped({ project, killing }: Scene): Promise<void> {
  await project.writesOn(10);
  await killing.tars.ok(['backup']);
  const cutMs = Date.parse((await killing.tars.manifest()).time);
  await project.writesOn(10);
  const aimAt = async (
    moment: Aim['moment'],
    operation: 'stop' | 'start',
    service: string,
  ): Promise<Aim> => ({ moment, matches: requestOf(operation, await project.container(service)) });
  const goesOn = async (): Promise<void> => {
    const { stderr } = await killing.tars.ok(['snapshots']);
    assert.match(stderr, /Restore \S+ of snapshot \S+ was interrupted/);
    await project.waitHealthy();
    await project.writesOn(5);
    const quiet = await killing.tars.ok(['snapshots']);
    assert.doesNotMatch(quiet.stderr, /was interrupted/, 'it is put right once');
  };

  // The last of them when Chroma's restored data is in place, and not all of PostgreSQL's.
  const aims = [
    ['after', 'stop', 'backend'],
    ['after', 'stop', 'chromadb'],
    ['after', 'start', 'chromadb'],
  ] as const;
  for (const [moment, operation, service] of isCampaign ? aims : aims.slice(-1)) {
    await killing.kill(['restore', '--yes'], await aimAt(moment, operation, service));
    assert.equal(await stateOf(project, 'backend'), 'exited', 'the backend is down');
    await goesOn();
  }
  await project.compose('stop', 'backend');
  const all = await project.ledger();
  assert.deepEqual(
    await compareWithLedger(project, all, { acknowledgedBeforeMs: Infinity }),
    [],
    'nothing is undone',
  );
  await project.compose('start', 'backend');
  await project.waitHealthy();

  await killing.kill(['restore', '--yes'], await aimAt('before', 'start', 'backend'));
  assert.equal(await stateOf(project, 'backend'), 'exited', 'the backend is down');
  const undone = await project.ledger();
  await goesOn();
  await project.compose('stop', 'backend');
  const written = (await project.ledger()).slice(undone.length);
  const kept = undone
    .filter(({ intendedMs }) => intendedMs <= cutMs)
    .map((entry) => ((entry.acknowledgedMs ?? 0) < cutMs ? entry : { ...entry, acknowledgedMs: undefined }));
  const missed = await compareWithLedger(project, [...kept, ...written], {
    acknowledgedBeforeMs: Infinity,
  });
  assert.deepEqual(missed, [], 'what was restored stays');
}

/** After the second answer to each of these, so that networks, volumes and some of the containers are there. */
const creations = [...(isCampaign ? ['/networks/create', '/volumes/create'] : []), '/containers/create'];

async function whileCreating({ project, killing }: Scene): Promise<void> {
  const { tars } = killing;
  const cutMs = Date.parse((await tars.manifest()).time);
  await project.compose('down', '--volumes');
  for (const path of creations) {
    const seen = { times: 0 };
    await killing.kill(['restore', '--yes'], {
      moment: 'after',
      matches: (request) => request.method === 'POST' && request.path.includes(path) && ++seen.times === 2,
    });
    const { stderr } = await tars.ok(['snapshots']);
    assert.match(stderr, /Restore \S+ of snapshot \S+ was interrupted \(phase: creating containers\)/);
    await eventually(
      `nothing is left after ${path}`,
      async () => (await remains(docker.engine, project.name)).length === 0,
    );
    assert.doesNotMatch((await tars.ok(['snapshots'])).stderr, /was interrupted/, 'it is put right once');
  }
  await tars.ok(['restore', '--yes']);
  await project.waitHealthy();
  await project.writesOn(5);
  await project.compose('stop', 'backend');
  const entries = await project.ledger();
  assert.deepEqual(await compareWithLedger(project, entries, { acknowledgedBeforeMs: cutMs }), []);
}
