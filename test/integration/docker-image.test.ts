import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Manifest } from '../../src/model/manifest.ts';
import type { RunRecord } from '../../src/ports/run-log.ts';
import { connectEngine } from '../../src/runtimes/docker/engine/engine.ts';
import { readProject } from '../../src/runtimes/docker/project/project.ts';
import { createRepositoryMark } from '../../src/storage/journal/repository-mark.ts';
import { createRunLog } from '../../src/storage/journal/run-log.ts';
import { isCampaign } from '../fixtures/campaign.ts';
import { copyCheckout } from '../fixtures/checkout.ts';
import { tars } from '../fixtures/cli.ts';
import { dockerForTests, type TestEngine } from '../fixtures/docker/engine.ts';
import { nodeImage } from '../fixtures/docker/node-image.ts';
import { startProject } from '../fixtures/docker/project.ts';
import { smallProject } from '../fixtures/docker/small-project.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const inCampaign = docker.skip !== false ? docker.skip : isCampaign ? false : 'in the campaign';
const asRoot = process.getuid?.() === 0 ? false : 'what a container writes as root is read and removed';
const root = join(import.meta.dirname, '../..');

interface BuildOptions {
  readonly dockerfile: string;
  readonly base: string;
}

/** Builds `directory`; disposal removes the image. Its packages come over this machine's own network. */
async function build(engine: TestEngine, directory: string, { dockerfile, base }: BuildOptions) {
  const image = `tars-test-built:${randomBytes(4).toString('hex')}`;
  const from = ['--build-arg', `BASE=${base}`, '--file', join(directory, dockerfile)];
  await engine.docker(['build', '--network', 'host', '--tag', image, ...from, directory], {
    timeoutMs: 1_800_000,
  });
  return {
    image,
    [Symbol.asyncDispose]: async () => {
      await engine.docker(['rmi', '--force', image]);
    },
  };
}

test('what is sent to the Engine is what the image is built from, and no secret', docker, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tars-context-'));
  try {
    await copyCheckout(directory);
    const stray = ['tars.yaml', 'tars-recovery.key', '.env', '.git/config', 'node_modules/a/index.js'];
    for (const path of stray) {
      await mkdir(join(directory, path, '..'), { recursive: true });
      await writeFile(join(directory, path), 'not for everybody\n');
    }
    await writeFile(join(directory, 'src/Listing'), 'ARG BASE\nFROM ${BASE}\nCOPY . /context\n');
    const base = 'tars-test/rootfs:latest';
    await using built = await build(docker.engine, directory, { dockerfile: 'src/Listing', base });
    const list = ['run', '--rm', '--entrypoint', 'ls', built.image, '-A', '/context'];
    const sent = (await docker.engine.docker(list)).split('\n').filter((name) => name !== '.dockerignore');
    assert.deepEqual(sent.sort(), [
      ...['.npmrc', 'package-lock.json', 'package.json', 'src', 'tsconfig.build.json', 'tsconfig.json'],
    ]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('the container of tars beside a project is none of its services', docker, async () => {
  const services = {
    store: { image: 'redis:7-tars-test' },
    tars: { image: 'tars-test/backend:1', labels: { 'com.tars.service': 'tars' } },
  };
  await using small = await smallProject(docker.engine, 'ib-', services);
  await small.compose('create');
  const { containers } = await readProject(await connectEngine({ host: docker.engine.host }), small.name);
  assert.deepEqual(
    containers.map(({ service }) => service),
    ['store'],
  );
});

test(
  'the image: built from a checkout, beside a project as deploy/compose.tars.yml says, and back on the machine',
  { skip: inCampaign || asRoot },
  async () => {
    const { engine } = docker;
    await using cleanup = new AsyncDisposableStack();
    const home = await mkdtemp(join(tmpdir(), 'tars-image-'));
    cleanup.defer(() => rm(home, { recursive: true, force: true }));
    const checkout = join(home, 'checkout');
    await copyCheckout(checkout);
    const base = await nodeImage(engine, process.versions.node);
    const { image } = cleanup.use(await build(engine, checkout, { dockerfile: 'deploy/Dockerfile', base }));
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    assert.equal(await engine.docker(['run', '--rm', image, '--version']), version);

    const project = cleanup.use(
      await startProject({ engine, prefix: 'im-', composeVersion: 'v2', file: 'tars-home' }),
    );
    const { directory: cwd, name } = project;
    const compose = (...args: readonly string[]): Promise<string> =>
      engine.compose('v2', ['-p', name, ...args], { cwd, timeoutMs: 300_000 });
    const inContainer = (...args: readonly string[]): Promise<string> =>
      compose('exec', '-T', 'tars', 'tars', ...args);
    await writeFile(join(cwd, 'docker-compose.override.yml'), await overrideHere(home, image));
    const stateDir = join(home, '.local/state/tars');
    const repository = createRepositoryMark(join(stateDir, 'runs'), join(home, 'disk/tars'));
    // The network of the host, and so its name.
    const owner = { stack: name, host: hostname(), repository };
    const lastRun = (): RunRecord | undefined => createRunLog(join(stateDir, 'runs'), owner).runs()[0];

    await compose('run', '--rm', '-T', 'tars', 'init', '--yes', '--repository', join(home, 'disk/tars'));
    await compose('up', '--detach', 'tars');
    await eventually(
      'the first backup ended',
      isTrue(() => lastRun()?.state === 'finished'),
      180_000,
    );
    assert.equal(lastRun()?.end?.outcome, 'ok', JSON.stringify(lastRun()));
    assert.match(await inContainer('status'), new RegExp(`^${name}: fine$`, 'm'));
    assertCaptured(await inContainer('show', '--json'));
    await eventually('it is healthy', async () => (await project.health('tars')) === 'healthy', 60_000);

    // On the machine, where the container's runs keep others out and are not kept out by themselves.
    const env = { HOME: home };
    const ledger = await project.exec('redis', ['redis-cli', 'dbsize']);
    await project.exec('redis', ['redis-cli', 'flushall']);
    const restored = await tars(['restore', '--yes'], { cwd, env });
    assert.equal(restored.exitCode, 0, restored.stderr);
    assert.notEqual(ledger, '0');
    assert.equal((await tars(['check', '--read-data'], { cwd, env })).exitCode, 0);

    // Without its record the daemon takes a backup at once, and one that waits for a store that stands still.
    await compose('rm', '--stop', '--force', 'tars');
    await rm(join(stateDir, 'runs'), { recursive: true });
    await compose('pause', 'postgres');
    await compose('up', '--detach', '--no-deps', 'tars');
    await eventually(
      'a backup is under way',
      isTrue(() => lastRun()?.state === 'running'),
      60_000,
    );
    const id = await project.container('tars');
    await compose('stop', 'tars');
    assert.equal(await engine.docker(['inspect', '--format', '{{.State.ExitCode}}', id]), '0');
    assert.equal(lastRun()?.end?.outcome, 'interrupted', JSON.stringify(lastRun()));
    await compose('unpause', 'postgres');
    const { stdout } = await tars(['check', '--json'], { cwd, env });
    assert.ok(!stdout.includes('lock-stale'), stdout);
    assert.equal((await tars(['backup'], { cwd, env })).exitCode, 0);
  },
);

const isTrue = (condition: () => boolean) => (): Promise<boolean> => Promise.resolve(condition());

/** deploy/compose.tars.yml with places of the test's own and a health check that one can wait for. */
async function overrideHere(home: string, image: string): Promise<string> {
  const changes = {
    '/mnt/backup:/mnt/backup': `${home}/disk:${home}/disk`,
    '- /root/': `- ${home}/`,
    'image: tars-backup': `image: ${image}`,
    'restart: unless-stopped': 'healthcheck: { interval: 1s }',
  };
  let text = await readFile(join(root, 'deploy/compose.tars.yml'), 'utf8');
  for (const [from, to] of Object.entries(changes)) {
    assert.ok(text.includes(from), from);
    text = text.replace(from, to);
  }
  return text;
}

/** All of the project in one moment, and nothing of tars itself. */
function assertCaptured(shown: string): void {
  const { manifest } = JSON.parse(shown) as { manifest: Manifest };
  assert.equal(manifest.outcome, 'complete');
  assert.equal(manifest.consistency, 'cut');
  const services = manifest.compose?.services.map((service) => service.name) ?? [];
  assert.deepEqual([...services].sort(), ['backend', 'chromadb', 'ollama', 'postgres', 'redis']);
  const left = manifest.notCaptured.map(({ subject, status }) => [subject, status]);
  assert.deepEqual(left, [['backend:/app/logs', 'left-out']]);
}
