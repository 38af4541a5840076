import { execa } from 'execa';
import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { freePort } from '../../src/demo/servers/common.ts';
import { cliPath } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { compareWithLedger, readStore, type StoreName } from '../fixtures/docker/ledger.ts';
import { editFile, giveOwnImages, type OwnImages } from '../fixtures/docker/own-images.ts';
import {
  attachProject,
  fingerprint,
  remains,
  removeProject,
  startProject,
} from '../fixtures/docker/project.ts';
import type { StartedProject } from '../fixtures/docker/project.ts';
import { tarsOn, type TarsOn } from '../fixtures/docker/tars-on.ts';

const docker = await dockerForTests();
const { skip } = docker;

const redis = 'redis:7-tars-test';
const postgres = 'postgres:15-tars-test';
const backend = 'tars-test/backend:1';
const services = ['backend', 'chromadb', 'ollama', 'postgres', 'redis'];
const stores: readonly StoreName[] = ['postgres', 'redis', 'chroma'];

interface Stage {
  readonly t: TestContext;
  readonly project: StartedProject;
  readonly images: OwnImages;
  readonly backup: TarsOn;
}

test('a Compose project restored beside itself, from nothing and in parts', { skip }, async (t) => {
  const start = { engine: docker.engine, prefix: 'dr-', composeVersion: 'v2', file: 'tars-home' } as const;
  await using project = await startProject({ ...start, up: false });
  await using images = await giveOwnImages(project, [redis, postgres, backend]);
  // A health check that gives up soon.
  const patience = 'retries: 60\n\nvolumes';
  await editFile(project, 'docker-compose.yml', patience, patience.replace('60', '12'));
  await project.compose('up', '-d');
  await project.waitHealthy();
  await using backup = await tarsOn(project, { compose: 'plugin' });
  await project.exec('ollama', ['ollama', 'pull', 'llama3.2:1b']);
  await project.writesOn(20);
  const stage: Stage = { t, project, images, backup };

  await t.test('the manifest records images, states and volumes, and show prints them', () =>
    recorded(stage),
  );
  await t.test('another name: restored beside the first, which nobody touches', () => beside(stage));
  const cutMs = Date.parse((await backup.manifest()).time);
  await t.test('nothing is left: everything missing is named, nothing is created', () => refused(stage));
  await t.test('a restore that is interrupted removes what it created', () => interrupted(stage));
  await t.test('a restore brings the project up from nothing', () => bare(stage, cutMs));
  await t.test('a service that does not get well is named with the end of its log', () => unwell(stage));
  await t.test('what is missing is created, and the rest stays what it is', () => partly(stage));
});

async function recorded({ project, images, backup }: Stage): Promise<void> {
  await backup.ok(['backup']);
  const { compose } = await backup.manifest();
  assert.ok(compose);
  assert.equal(compose.project, project.name);
  assert.deepEqual(compose.composeFiles, [project.composeFile]);
  assert.deepEqual(compose.services.map(({ name }) => name).sort(), services);
  const store = compose.services.find(({ name }) => name === 'postgres');
  assert.equal(store?.image, images.of(postgres));
  assert.match(store.imageId, /^sha256:/);
  assert.equal(store.state, 'running');
  assert.equal(store.health, 'healthy');
  assert.match(store.configHash ?? '', /^[0-9a-f]{64}$/);
  const volume = compose.volumes.find(({ service }) => service === 'postgres');
  assert.equal(volume?.name, `${project.name}_postgres_data`);
  assert.equal(volume.driver, 'local');
  const root = await project.exec('postgres', ['stat', '-c', '%u %g %a', '/var/lib/postgresql/data']);
  const { uid, gid, mode } = volume.root ?? {};
  assert.equal(`${uid} ${gid} ${mode?.toString(8)}`, root);
  const shown = await backup.ok(['show']);
  assert.match(
    shown.stdout,
    new RegExp(`postgres +running, healthy +${images.of(postgres)} +sha256:.*built`),
  );
}

async function beside({ project, backup }: Stage): Promise<void> {
  const name = `${project.name}-copy`;
  const overriding = join(backup.directory, 'copy.yml');
  const before = await fingerprint(project);
  const files = `${project.composeFile},${overriding}`;
  const args = ['restore', '--project', name, '--yes', '--compose-file'];
  try {
    const taken = await backup.run([...args, project.composeFile]);
    assert.equal(taken.exitCode, 1);
    assert.match(taken.stderr, /port \d+ of redis is taken by .*redis-1/);
    await writeFile(overriding, 'volumes:\n  redis_data:\n    name: ' + `${project.name}_redis_data\n`);
    const shared = await backup.run([...args, files]);
    assert.match(shared.stderr, new RegExp(`redis mounts the volume ${project.name}_redis_data`));
    await writeFile(overriding, 'services:\n  ollama:\n    container_name: ' + `${project.name}-redis-1\n`);
    const named = await backup.run([...args, files]);
    assert.match(named.stderr, /container_name of ollama is .*redis-1, which is taken/);
    assert.deepEqual(await remains(docker.engine, name), [], 'a refusal creates nothing');

    await writeFile(overriding, await otherPorts(backup.directory));
    const written = (await project.ledger()).length;
    const done = await backup.ok([...args, files]);
    assert.match(done.stdout, /Restored and verified: /);
    assert.equal(await fingerprint(project), before, 'the first project is what it was');
    const other = attachProject(docker.engine, name, 'tars-home');
    for (const service of services) assert.equal(await other.health(service), 'healthy', service);
    for (const store of stores) assert.ok((await readStore(other, store)).size > 0, store);
    await project.writesOn(2);
    await project.docker('pause', await project.container('backend'));
    const entries = await project.ledger();
    assert.ok(entries.length > written, 'the first backend goes on writing');
    assert.deepEqual(await compareWithLedger(project, entries, { acknowledgedBeforeMs: Infinity }), []);
    await project.docker('unpause', await project.container('backend'));
  } finally {
    await removeProject(docker.engine, name);
  }
}

/** What a person would write to run the same project twice. */
async function otherPorts(directory: string): Promise<string> {
  const [chroma, database, cache, models] = await Promise.all([1, 2, 3, 4].map(() => freePort()));
  return `services:
  chromadb: { ports: !override ['127.0.0.1:${chroma}:8000'] }
  postgres: { ports: !override ['127.0.0.1:${database}:5432'] }
  redis: { ports: !override ['127.0.0.1:${cache}:6379'] }
  ollama: { ports: !override ['127.0.0.1:${models}:11434'] }
  backend: { volumes: ['${directory}/logs-of-copy:/app/logs'] }
`;
}

async function refused({ project, images, backup }: Stage): Promise<void> {
  await removeProject(docker.engine, project.name);
  await rm(project.directory, { recursive: true });
  await images.remove(redis);
  await images.remove(backend);
  const missing = await backup.run(['restore', '--yes']);
  assert.equal(missing.exitCode, 1);
  for (const image of [redis, backend]) assert.ok(missing.stderr.includes(images.of(image)), missing.stderr);
  assert.match(missing.stderr, /built locally/);
  await images.reset(redis);
  await images.reset(backend);

  await images.change(postgres, 'ENV PG_MAJOR=14');
  const older = await backup.run(['restore', '--yes']);
  assert.match(older.stderr, /Cannot restore postgres: it was captured from version 15.*holds version 14/);
  await images.reset(postgres);

  await using without = await tarsOn(project, { compose: undefined });
  const none = await backup.run(['restore', '--yes'], { PATH: without.path });
  assert.match(none.stderr, /there is no Docker Compose on this machine\n +Install Docker Compose/);

  await images.change(redis, 'LABEL changed=yes');
  const plan = await backup.ok(['restore', '--dry-run']);
  assert.match(plan.stdout, /redis runs .* as sha256:\w+; at the capture it was sha256:\w+, which is on/);
  assert.ok(plan.stdout.includes('to go back to it, run docker tag'), plan.stdout);
  await images.reset(redis);
  assert.deepEqual(await remains(docker.engine, project.name), [], 'nothing was created');
  await assert.rejects(readFile(project.composeFile), { code: 'ENOENT' });
}

async function interrupted({ project, backup }: Stage): Promise<void> {
  const config = join(backup.directory, 'tars.yaml');
  const run = execa(process.execPath, [cliPath, 'restore', '--yes', '--config', config], {
    ...{ reject: false, stdin: 'ignore' },
    env: { PATH: backup.path, DOCKER_CONFIG: join(backup.directory, 'docker'), NO_COLOR: '1' },
  });
  let said = '';
  run.stderr.on('data', (chunk: Buffer) => {
    const before = said.includes('Starting postgres');
    said += chunk.toString();
    // By then all of it was created.
    if (!before && said.includes('Starting postgres')) run.kill('SIGINT');
  });
  const { exitCode, stderr } = await run;
  assert.equal(exitCode, 130, stderr);
  assert.match(stderr, /the objects that it had created were removed/);
  assert.deepEqual(await remains(docker.engine, project.name), []);
  await assert.rejects(readFile(project.composeFile), { code: 'ENOENT' });
}

async function bare({ project, backup }: Stage, cutMs: number): Promise<void> {
  const before = (await project.ledger()).length;
  const plan = await backup.ok(['restore', '--dry-run']);
  assert.match(plan.stdout, new RegExp(`containers of ${services.join(', ')} and the volumes .*redis_data`));
  assert.match(plan.stdout, / with docker compose; nothing is started, pulled or built/);
  assert.match(plan.stdout, /Restore .*docker-compose\.yml/);
  const done = await backup.ok(['restore', '--yes']);
  assert.match(done.stdout, /Restored and verified: /);
  for (const service of services) assert.equal(await project.health(service), 'healthy', service);
  await project.writesOn(5);
  await project.docker('stop', await project.container('backend'));
  const entries = await project.ledger();
  assert.ok(entries.length > before, 'the backend goes on');
  assert.deepEqual(await compareWithLedger(project, entries, { acknowledgedBeforeMs: cutMs }), []);
  await project.exec('ollama', ['ollama', 'verify']);
}

async function unwell({ project, images, backup }: Stage): Promise<void> {
  await project.docker('rm', '--force', await project.container('backend'));
  await images.change(backend, 'CMD ["sh", "-c", "echo I wait for $JWT_SECRET; exec sleep 1000"]');
  const done = await backup.run(['restore', '--yes']);
  assert.equal(done.exitCode, 1);
  assert.match(done.stderr, /backend: It is unhealthy after the restore/);
  assert.match(done.stderr, /\| I wait for \*\*\*/);
  assert.match(done.stdout, /Restored, but unhealthy: backend/);
  assert.doesNotMatch(done.stderr + done.stdout, /6dd0f1a2b9c84e37a1f5c0d2e8b7a694/);
  await images.reset(backend);
  await project.docker('rm', '--force', await project.container('backend'));
}

async function partly({ project, backup }: Stage): Promise<void> {
  const stays = ['chromadb', 'ollama', 'postgres'];
  const ids = await Promise.all(stays.map((service) => project.container(service)));
  await project.docker('rm', '--force', await project.container('redis'));
  await project.docker('volume', 'rm', `${project.name}_redis_data`);
  const plan = await backup.ok(['restore', '--dry-run']);
  assert.match(plan.stdout, /containers of backend, redis and the volumes \S+_redis_data from/);
  await backup.ok(['restore', '--yes']);
  assert.deepEqual(await Promise.all(stays.map((service) => project.container(service))), ids);
  for (const service of services) assert.equal(await project.health(service), 'healthy', service);
  for (const store of stores) assert.ok((await readStore(project, store)).size > 0, store);
}
