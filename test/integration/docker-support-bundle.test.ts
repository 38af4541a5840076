import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { createContainerInspector } from '../../src/runtimes/docker/engine/support.ts';
import { testContext } from '../fixtures/context.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const { skip } = docker;
const ctx = testContext();

test('an Engine says of a container what may be shown, and the end of its log', { skip }, async (t) => {
  const project = `vx-support-${randomBytes(4).toString('hex')}`;
  const script = `i=0; while [ $i -lt 300 ]; do echo "line $i"; i=$((i+1)); done; head -c 40000 /dev/zero | tr '\\0' x; echo; echo last`;
  const run = [
    ...['run', '--detach', '--name', `${project}-api`, '--entrypoint', 'sh'],
    ...['--label', `com.docker.compose.project=${project}`, '--label', 'com.docker.compose.service=api'],
    ...['--label', 'com.docker.compose.project.config_files=compose.yaml'],
    ...['--label', 'com.docker.compose.project.working_dir=/srv/app', '--label', 'secret.label=In-Label-1'],
    ...['--env', 'API_TOKEN=In-Environment-2', '--volume', '/tmp:/mounted:ro', 'redis:7-tars-test'],
  ];
  t.after(() => docker.engine.docker(['rm', '--force', `${project}-api`]));
  await docker.engine.docker([...run, '-c', `${script}; : In-Command-3`]);
  const inspector = createContainerInspector(docker.engine.host, project, {});
  const named = async (): Promise<(typeof all)[number] | undefined> =>
    (await inspector.containers(ctx.signal)).find(({ state }) => JSON.stringify(state).includes('exited'));
  await eventually('The container has ended', async () => (await named()) !== undefined);
  const all = await inspector.containers(ctx.signal);
  const [container] = all;
  assert.ok(container);
  assert.equal(container.service, 'api');
  const state = JSON.stringify(container.state);
  assert.doesNotMatch(state, /In-Label|In-Environment|In-Command/);
  assert.match(state, /"status":"exited","exitCode":0/);
  assert.match(state, /"destination":"\/mounted","readOnly":true/);
  assert.ok(container.environment.includes('API_TOKEN=In-Environment-2'));
  assert.match(container.command.join(' '), /In-Command-3/);
  const log = Buffer.from(await container.log(200, 262_144, ctx)).toString();
  assert.match(log, /^line \d+\n[\s\S]*\nx{40000}\nlast\n/);
  assert.doesNotMatch(log, /^line 50$/m);
  assert.deepEqual(await inspector.composeFiles(ctx.signal), ['/srv/app/compose.yaml']);
  assert.match(JSON.stringify(await inspector.version(ctx.signal)), /"version":"\d/);
});
