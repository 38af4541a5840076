import assert from 'node:assert/strict';
import { appendFile, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Manifest } from '../../src/model/manifest.ts';
import { tars as runTars } from '../fixtures/cli.ts';
import { startEngineProxy } from '../fixtures/docker/engine-proxy.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { smallProject, type SmallProject } from '../fixtures/docker/small-project.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();

const redis = (volume: string): object => ({ image: 'redis:7-tars-test', volumes: [`${volume}:/data`] });
const sleeping = { image: 'tars-test/backend:1', command: ['sleep', '600'], init: true };

const services = {
  // Its volume is a directory of the machine, which the Engine mounts only while the container runs.
  cache: redis('cache'),
  web: { ...sleeping, volumes: ['uploads:/srv/uploads'] },
  workers: { ...sleeping, depends_on: ['cache'], deploy: { replicas: 2 } },
  crashing: { ...redis('crashing'), entrypoint: ['false'], restart: 'always' },
  scaled: { ...redis('scaled'), scale: 0 },
  elsewhere: redis('elsewhere'),
  twice: redis('twice'),
  paused: redis('paused'),
  created: redis('created'),
  broken: redis('broken'),
  optional: { ...redis('optional'), profiles: ['later'] },
};

/** What the Engine answers of a container whose layers are damaged. */
function serverError(message: string): string {
  const body = JSON.stringify({ message });
  return `HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
}

/** One service or volume of each kind of trouble beside two that are well. */
async function makeOdd(small: SmallProject): Promise<void> {
  const { name, directory, project } = small;
  await small.compose('up', '-d');
  const containerOf = (service: string): string => `${name}-${service}-1`;
  await project.docker('stop', '-t', '1', containerOf('elsewhere'), containerOf('created'));
  await rm(join(directory, 'elsewhere'), { recursive: true });
  await project.docker('rm', containerOf('created'));
  await small.compose('create', 'created');
  await small.compose('up', '-d', '--no-recreate', '--scale', 'twice=2', 'twice');
  await project.docker('stop', '-t', '1', containerOf('twice'));
  await project.docker('pause', containerOf('paused'));
  await eventually(
    'it restarts again and again',
    async () => (await project.health('crashing')) === 'restarting',
  );
  await project.exec('cache', ['redis-cli', 'set', 'answer', '42']);
  await project.exec('web', ['sh', '-c', 'echo hello > /srv/uploads/file']);
}

test(
  'each odd service or volume of a project costs itself only, and is named',
  { skip: docker.skip },
  async () => {
    const volumes = ['crashing', 'scaled', 'twice', 'paused', 'created', 'broken', 'optional'];
    const directories = { cache: 'cache', uploads: 'uploads', elsewhere: 'elsewhere' };
    await using small = await smallProject(docker.engine, 'od-', services, { volumes, directories });
    const { name, directory, project } = small;
    await makeOdd(small);
    const damaged = await project.container('broken');
    await using proxy = await startEngineProxy(docker.engine.host, {
      before: ({ method, path }) =>
        Promise.resolve(
          method === 'GET' && path.includes(`/containers/${damaged}/json`)
            ? serverError('RWLayer is unexpectedly nil')
            : undefined,
        ),
    });
    const config = join(directory, 'tars.yaml');
    const tars = (...args: readonly string[]) =>
      runTars([...args, '--config', config], {
        env: {
          ...{ TARS_PASSWORD: 'long enough', XDG_STATE_HOME: join(directory, 'state') },
          DOCKER_HOST: proxy.host,
        },
      });

    const init = await tars(
      'init',
      '--yes',
      '--project',
      name,
      '--repository',
      join(directory, 'repository'),
    );
    for (const said of [
      /The Compose files also have optional, scaled, without a container/,
      // It may have been started again for a moment when tars looked.
      /crashing of the project \S+ restarts again and again|ERROR +store crashing .*does not answer/,
      /elsewhere of the project \S+ is stopped/,
      /created of the project \S+ is stopped/,
      /paused of the project \S+ is paused/,
      /twice of the project \S+ has 2 containers.*twice-1 \(stopped\).*twice-2 \(running\)/s,
      /Cannot inspect the container \S+broken-1: .*RWLayer is unexpectedly nil/s,
      /WARN +services .*broken is in an unknown state/,
      new RegExp(`No component captures .*volume ${name}_scaled`, 's'),
    ])
      assert.match(init.stdout.replaceAll(/\n +/g, ' '), said);

    await appendFile(config, '\npause_max_ms: 60000\n');
    const backup = await tars('backup', '--json');
    assert.equal(backup.exitCode, 2, backup.stderr);
    const { manifest } = JSON.parse(backup.stdout) as { manifest: Manifest };
    const captured = manifest.components.filter(({ outcome }) => outcome === 'captured');
    assert.deepEqual(captured.map((component) => component.name).sort(), ['cache', 'config', 'uploads']);
    assert.deepEqual(
      manifest.components
        .flatMap((component) => (component.error === undefined ? [] : component.name))
        .sort(),
      ['broken', 'crashing', 'created', 'elsewhere', 'paused', 'twice'],
    );
    // The record of images and volumes, from which everything is created again, lacks only what cannot be seen.
    assert.match(backup.stderr, /The owner and mode of \/data of elsewhere .* not recorded/);
    const recorded = manifest.compose?.volumes.filter(({ root }) => root !== undefined) ?? [];
    assert.ok(recorded.some((volume) => volume.name === `${name}_cache`));
    assert.ok(manifest.notCaptured.some(({ subject }) => subject === `volume ${name}_scaled`));

    // Both are stopped, and nothing is mounted where the Engine mounts the volumes.
    await project.exec('cache', ['redis-cli', 'set', 'answer', '43']);
    await project.docker('stop', '-t', '1', `${name}-cache-1`, `${name}-web-1`);
    await rm(join(directory, 'uploads', 'file'));
    const restore = await tars('restore', '--yes', '--component', 'cache', '--component', 'uploads');
    assert.equal(restore.exitCode, 0, restore.stderr);
    assert.equal(await readFile(join(directory, 'uploads', 'file'), 'utf8'), 'hello\n');
    await small.compose('start', 'cache');
    assert.equal(await project.exec('cache', ['redis-cli', 'get', 'answer']), '42');
  },
);
