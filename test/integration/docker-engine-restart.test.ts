import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { startEngineProxy, type EngineRequest } from '../fixtures/docker/engine-proxy.ts';
import { startPrivateEngine, type PrivateEngine } from '../fixtures/docker/private-engine.ts';
import { startProject, type StartedProject } from '../fixtures/docker/project.ts';
import { tarsOn } from '../fixtures/docker/tars-on.ts';
import { eventually } from '../fixtures/processes.ts';

const { skip } = await dockerForTests();
const root = process.getuid?.() === 0;

type Blow = (engine: PrivateEngine) => Promise<void>;
const blows: Readonly<Record<string, Blow>> = {
  'is stopped': (engine) => engine.stop(),
  'is killed': (engine) => engine.kill(),
};

for (const liveRestore of [false, true]) {
  const kind = liveRestore ? 'that leaves its containers running' : 'that takes its containers along';
  test(
    `an Engine ${kind} ends in the middle of a backup: said, no whole snapshot, nobody stays paused, the next one succeeds`,
    { skip: skip || (root ? false : 'needs root') },
    (t) => endInTheMiddle(t, liveRestore),
  );
}

async function endInTheMiddle(t: TestContext, liveRestore: boolean): Promise<void> {
  await using engine = await startPrivateEngine({ liveRestore });
  await using project = await startProject({
    ...{ engine, prefix: 'de-', composeVersion: 'v2', file: 'tars-home', publishPorts: false },
  });
  let strike: ((request: EngineRequest) => Promise<void>) | undefined;
  await using proxy = await startEngineProxy(engine.host, { after: async (request) => strike?.(request) });
  await using tars = await tarsOn(project, {
    compose: 'v2',
    settings: { docker: { project: project.name, host: proxy.host } },
  });
  for (const [what, blow] of Object.entries(blows)) {
    await t.test(`it ${what} while the backend is paused`, async () => {
      const backend = await project.container('backend');
      const startedAt = (): Promise<string> =>
        project.docker('inspect', '--format', '{{.State.StartedAt}}', backend);
      const started = await startedAt();
      await project.writesOn(5);
      strike = async ({ path }) => {
        if (!path.startsWith(`/containers/${backend}/pause`)) return;
        strike = undefined;
        await blow(engine);
      };
      const { exitCode, stderr } = await tars.run(['backup']);
      assert.equal(strike, undefined, 'the backup came to the pause');
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
    });
  }
  await tars.ok(['backup']);
  const { outcome, consistency } = await tars.manifest();
  assert.deepEqual([outcome, consistency], ['complete', 'cut']);
}

const pausedOnes = (project: StartedProject): Promise<string> =>
  project.docker('ps', '--quiet', '--filter', 'status=paused');
