import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Manifest } from '../../src/model/manifest.ts';
import { tars } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { smallProject } from '../fixtures/docker/small-project.ts';

const docker = await dockerForTests();

const image = 'chromadb/chroma:1.0.1-tars-test';
const restart = 'no';
const configOf = (path: string): string => `persist_path: "${path}"\nlisten_address: "0.0.0.0"\nport: 8000\n`;

const collectionsUrl =
  'http://localhost:8000/api/v2/tenants/default_tenant/databases/default_database/collections';

/** Chroma 1 with its volume where it does not look, in the ways that happen, and one whose volume is right. */
const services = {
  // The official image's command, with the volume where Chroma kept its data before 1.0.
  moved: { image, restart, volumes: ['moved:/chroma/chroma'] },
  // The variable that Chroma 0.x obeyed points to the volume, and a database of those days is still in it.
  leftover: {
    ...{ image, restart },
    environment: { PERSIST_DIRECTORY: '/chroma/chroma', IS_PERSISTENT: 'TRUE' },
    command: ['run', '/config.yaml'],
    volumes: ['leftover:/chroma/chroma', './data.yaml:/config.yaml:ro'],
  },
  // Where nothing is mounted.
  cache: { image: 'redis:7-tars-test', restart, command: ['redis-server', '--dir', '/tmp'] },
  right: {
    ...{ image, restart },
    command: ['run', '/config.yaml'],
    volumes: ['right:/srv/vectors', './vectors.yaml:/config.yaml:ro'],
  },
};

test(
  'Chroma and Redis without a volume where their data is: captured through their servers, and said to be at risk, whatever lies in a volume',
  { skip: docker.skip },
  async () => {
    await using small = await smallProject(docker.engine, 'cp-', services, {
      volumes: ['moved', 'leftover', 'right'],
      files: { 'data.yaml': configOf('/data'), 'vectors.yaml': configOf('/srv/vectors') },
    });
    await small.compose('up', '--no-start');
    await plantOldDatabase(small.name, await small.project.container('leftover'));
    await small.compose('up', '-d');
    for (const service of ['moved', 'leftover', 'right'])
      await waitForHeartbeat(await small.project.container(service));

    const env = {
      TARS_PASSWORD: 'long enough',
      XDG_STATE_HOME: small.directory,
      DOCKER_HOST: docker.engine.host,
    };
    await writeFile(
      join(small.directory, 'tars.yaml'),
      JSON.stringify({
        version: 1,
        stack: 'places',
        repository: { path: './repository' },
        docker: { project: small.name },
        components: Object.fromEntries(
          Object.keys(services).map((service) => [
            service,
            { kind: service === 'cache' ? 'redis' : 'chroma', service },
          ]),
        ),
      }),
      { mode: 0o600 },
    );
    const run = (...args: readonly string[]): ReturnType<typeof tars> =>
      tars([...args, '--json'], { cwd: small.directory, env });
    assert.equal((await run('init')).exitCode, 0);
    const { exitCode, stdout, stderr } = await run('backup');
    assert.equal(exitCode, 0);
    const { manifest } = JSON.parse(stdout) as { manifest: Manifest };
    const components = new Map(manifest.components.map((component) => [component.name, component]));
    assert.equal(components.get('right')?.outcome, 'captured');
    assert.equal(components.get('right')?.method, 'physical');
    for (const name of ['moved', 'leftover']) {
      const { outcome, method } = components.get(name)!;
      assert.deepEqual([outcome, method], ['captured', 'logical']);
      const warning = new RegExp(
        `${name} keeps its data in /data inside its container.*docker stop \\S+ && docker cp .*:/data .*mount a volume with it at /data.*mounted at /chroma/chroma is not used`,
      );
      assert.match(stderr, warning);
      assert.match((await run('doctor')).stdout, warning);
    }
    // Redis hands its data out as well; it is restored into files, for which there is no place that stays.
    assert.equal(components.get('cache')?.outcome, 'captured');
    const unmounted = /cache keeps its data in \/tmp inside its container, which no volume or directory/;
    assert.match(stderr, unmounted);
    const refused = await run('restore', '--yes', '--component', 'cache');
    assert.equal(refused.exitCode, 1);
    assert.match(refused.stderr, unmounted);
    assert.match(refused.stderr, /Mount a volume there .*docker compose up -d/);
    // The container is removed, as by the next update of its image: what was in it comes back.
    const create = `curl -fsS -X POST -H 'content-type: application/json' -d '{"name":"notes"}' ${collectionsUrl}`;
    const inMoved = (script: string): Promise<string> => small.project.exec('moved', ['sh', '-c', script]);
    await inMoved(create);
    assert.equal((await run('backup', '--only', 'moved')).exitCode, 0);
    await small.compose('up', '-d', '--force-recreate', 'moved');
    await waitForHeartbeat(await small.project.container('moved'));
    assert.equal(await inMoved(`curl -fsS ${collectionsUrl}`), '[]');
    const restored = await run('restore', '--yes', '--component', 'moved');
    assert.equal(restored.exitCode, 0, restored.stderr);
    assert.match(await inMoved(`curl -fsS ${collectionsUrl}`), /"name":"notes"/);
  },
);

/** A whole directory of another Chroma in the volume that this server never opens. */
async function plantOldDatabase(project: string, container: string): Promise<void> {
  const { engine } = docker;
  const volume = `${project}_leftover`;
  const argv = [
    'run',
    '--rm',
    '-d',
    '--label',
    `com.docker.compose.project=${project}`,
    '-v',
    `${volume}:/data`,
    image,
  ];
  const id = await engine.docker(argv);
  try {
    await waitForHeartbeat(id);
  } finally {
    await engine.docker(['rm', '--force', id]);
  }
  await engine.docker(['cp', `${container}:/chroma/chroma/chroma.sqlite3`, '-']);
}

async function waitForHeartbeat(container: string): Promise<void> {
  const loop = 'until curl -fsS http://localhost:8000/api/v2/heartbeat; do sleep 0.1; done';
  await docker.engine.docker(['exec', container, 'timeout', '60', 'sh', '-c', loop]);
}
