import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCampaign } from '../fixtures/campaign.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { startEngineProxy, type EngineRequest } from '../fixtures/docker/engine-proxy.ts';
import { compareWithLedger } from '../fixtures/docker/ledger.ts';
import { startPrivateEngine, type PrivateEngine } from '../fixtures/docker/private-engine.ts';
import { startProject, type StartedProject } from '../fixtures/docker/project.ts';
import { tarsOn, type TarsOn } from '../fixtures/docker/tars-on.ts';
import { wholeCut } from '../fixtures/docker/whole-cut.ts';
import { eventually } from '../fixtures/processes.ts';

const { skip } = await dockerForTests();
const root = process.getuid?.() === 0;

type Blow = (engine: PrivateEngine) => Promise<void>;
const blows: Readonly<Record<string, Blow>> = {
  'is stopped': (engine) => engine.stop(),
  'is killed': (engine) => engine.kill(),
};

test(
  'an Engine ends in the middle of a backup: said, no whole snapshot, nobody stays paused, the next one succeeds',
  { skip: skip || (root ? false : 'needs root') },
  async (t) => {
    await using engine = await startPrivateEngine({ liveRestore: !isCampaign });
    await using project = await startProject({
      ...{ engine, prefix: 'de-', composeVersion: 'v2', file: 'tars-home', publishPorts: false },
    });
    const hooks: Hooks = {};
    await using proxy = await startEngineProxy(engine.host, {
      after: async (request) => hooks.strike?.(request),
    });
    await using tars = await tarsOn(project, {
      compose: 'v2',
      settings: { docker: { project: project.name, host: proxy.host } },
    });
    for (const liveRestore of isCampaign ? [false, true] : [true]) {
      const kind = liveRestore ? 'leaves its containers running' : 'takes its containers along';
      for (const [what, blow] of Object.entries(blows)) {
        // The worst of them; in all combinations in the campaign.
        if (!isCampaign && what !== 'is killed') continue;
        await t.test(`one that ${kind} ${what} while the backend is paused`, () =>
          endInTheMiddle({ engine, project, tars, hooks }, blow, liveRestore),
        );
      }
      if (liveRestore) continue;
      await engine.stop();
      await engine.start({ liveRestore: true });
      await project.compose('up', '-d');
      await project.waitHealthy();
    }
    await wholeCut(async () => {
      await tars.ok(['backup']);
      return tars.manifest();
    });
    // None of it cost anything that was acknowledged.
    await project.compose('stop', 'backend');
    const entries = await project.ledger();
    assert.deepEqual(await compareWithLedger(project, entries, { acknowledgedBeforeMs: Infinity }), []);
  },
);

interface Hooks {
  strike?: (request: EngineRequest) => Promise<void>;
}

interface Scene {
  readonly engine: PrivateEngine;
  readonly project: StartedProject;
  readonly tars: TarsOn;
  readonly hooks: Hooks;
}

async function endInTheMiddle(
  { engine, project, tars, hooks }: Scene,
  blow: Blow,
  liveRestore: boolean,
): Promise<void> {
  const backend = await project.container('backend');
  const startedAt = (): Promise<string> =>
    project.docker('inspect', '--format', '{{.State.StartedAt}}', backend);
  const started = await startedAt();
  await project.writesOn(5);
  let struck: Promise<void> | undefined;
  hooks.strike = async ({ path }) => {
    if (!path.startsWith(`/containers/${backend}/pause`)) return;
    delete hooks.strike;
    struck = blow(engine);
    await struck;
  };
  const { exitCode, stderr } = await tars.run(['backup']);
  // An Engine that still ends is not started.
  await struck;
  assert.equal(hooks.strike, undefined, 'the backup came to the pause');
  assert.equal(exitCode, 1, stderr);
  assert.match(stderr, /the Docker Engine does not answer/);
  assert.match(stderr, /Start Docker/);
  await engine.start();
  if (!liveRestore) await project.compose('up', '-d');
  await eventually('nobody is paused', async () => (await pausedOnes(project)) === '', 60_000);
  await project.waitHealthy();
  await project.writesOn(5);
  if (liveRestore) assert.equal(await startedAt(), started, 'it is the guardian that resumed it');
  const { stdout } = await tars.ok(['snapshots', '--json']);
  assert.deepEqual(JSON.parse(stdout), []);
}

const pausedOnes = (project: StartedProject): Promise<string> =>
  project.docker('ps', '--quiet', '--filter', 'status=paused');
