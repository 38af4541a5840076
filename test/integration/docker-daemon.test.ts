import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmod, chown } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runLogOf } from '../../src/composition/index.ts';
import { loadSettings } from '../../src/composition/settings.ts';
import { isCampaign } from '../fixtures/campaign.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { eventually } from '../fixtures/processes.ts';
import { startSmallStack } from '../fixtures/small-stack.ts';

const docker = await dockerForTests();
const skip = docker.skip !== false ? docker.skip : isCampaign ? false : 'in the campaign';
const project = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const image = 'tars-test/rootfs:latest';
const uid = 1000;

test(
  'the daemon in a container, as nobody in particular: first backup, status, SIGTERM',
  { skip },
  async () => {
    await using stack = await startSmallStack();
    const [, settings = ''] = await stack.changed({ schedule: { backup: '0 0 1 1 *' } });
    // Everything it reads and writes belongs to the user it runs as.
    await docker.engine.docker([
      ...['run', '--rm', '--volume', `${stack.root}:${stack.root}`, '--entrypoint', 'chown', image],
      ...['-R', String(uid), stack.root],
    ]);
    await chown(stack.root, uid, uid);
    await chmod(stack.root, 0o755);
    const name = `tars-daemon-${randomBytes(4).toString('hex')}`;
    const tars = ['node', join(project, 'src/cli/main.ts'), '--config', settings];
    await docker.engine.docker([
      ...['run', '--detach', '--name', name, '--network', 'none', '--user', `${uid}:${uid}`],
      ...['--volume', `${project}:${project}:ro`, '--volume', `${stack.root}:${stack.root}`],
      ...['--entrypoint', 'dumb-init', image, '--single-child', '--', ...tars, 'daemon'],
    ]);
    try {
      const log = runLogOf(await loadSettings(stack.settingsPath, {}));
      const ended = (): Promise<boolean> => Promise.resolve(log.runs()[0]?.state === 'finished');
      await eventually('the first backup ended', ended, 60_000);
      assert.equal(log.runs()[0]?.end?.outcome, 'ok', JSON.stringify(log.runs()));
      const status = await docker.engine.docker(['exec', name, ...tars, 'status']);
      assert.match(status, /^small: fine$/m);
      assert.match(status, /^ +Daemon +pid \d+$/m);
      await docker.engine.docker(['stop', '--time', '60', name]);
      const exitCode = await docker.engine.docker(['inspect', '--format', '{{.State.ExitCode}}', name]);
      assert.equal(exitCode, '0');
    } finally {
      await docker.engine.docker(['rm', '--force', name]);
    }
  },
);
