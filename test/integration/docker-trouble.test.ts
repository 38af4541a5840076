import assert from 'node:assert/strict';
import { execa } from 'execa';
import { chmod, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { stringify } from 'yaml';
import type { Manifest } from '../../src/model/manifest.ts';
import { cliPath } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { startProject, type StartedProject } from '../fixtures/docker/project.ts';
import { tarsOn, type TarsOn } from '../fixtures/docker/tars-on.ts';

const docker = await dockerForTests();
const { skip } = docker;
const root = process.getuid?.() === 0;
const nobody = 65_534;

const stateOf = async (project: StartedProject, service: string): Promise<string> =>
  project.docker('inspect', '--format', '{{.State.Status}}', await project.container(service));

async function backUp(tars: TarsOn, exitCode: number): Promise<Manifest> {
  const run = await tars.run(['backup', '--json']);
  assert.equal(run.exitCode, exitCode, run.stderr);
  return (JSON.parse(run.stdout) as { manifest: Manifest }).manifest;
}

test(
  'containers of a project that do not run, are paused by somebody else, or are not there',
  { skip },
  async (t) => {
    await using project = await startProject({
      ...{ engine: docker.engine, prefix: 'dt-', composeVersion: 'v2', file: 'tars-home' },
    });
    await using tars = await tarsOn(project, { compose: 'v2' });

    await t.test('a backend that somebody else paused stays paused, and the cut is whole', async () => {
      const id = await project.container('backend');
      await project.docker('pause', id);
      const { consistency, outcome, writerPauseMs } = await backUp(tars, 0);
      assert.deepEqual([consistency, outcome, writerPauseMs], ['cut', 'complete', undefined]);
      assert.equal(await stateOf(project, 'backend'), 'paused');
      await project.docker('unpause', id);
    });

    await t.test('a backend that has ended stays so, and the cut is whole', async () => {
      await project.docker('stop', await project.container('backend'));
      const { consistency, outcome } = await backUp(tars, 0);
      assert.deepEqual([consistency, outcome], ['cut', 'complete']);
      assert.equal(await stateOf(project, 'backend'), 'exited');
    });

    await t.test(
      'a store that has ended, is paused or is not there fails by name, with the hint',
      async () => {
        await project.docker('stop', await project.container('redis'));
        await project.docker('pause', await project.container('chromadb'));
        await project.docker('rm', '--force', await project.container('postgres'));
        const { outcome, components } = await backUp(tars, 2);
        assert.equal(outcome, 'partial');
        const errors = new Map(components.map(({ name, error }) => [name, error]));
        const { name } = project;
        assert.equal(errors.get('redis')?.message, `redis of the project ${name} is stopped`);
        assert.ok(errors.get('redis')?.hint?.includes(`docker compose -p ${name} start redis`));
        assert.equal(errors.get('chroma')?.message, `chromadb of the project ${name} is paused`);
        assert.ok(errors.get('chroma')?.hint?.includes(`docker compose -p ${name} unpause chromadb`));
        assert.equal(errors.get('postgres')?.message, `The project ${name} has no container of postgres`);
        assert.match(
          errors.get('postgres')?.hint ?? '',
          /It has: backend, chromadb, ollama, redis\. .*up --no-start/,
        );
        assert.equal(errors.get('ollama'), undefined);
        assert.equal(await stateOf(project, 'chromadb'), 'paused', 'it is not ours to resume');
        const { stderr } = await tars.run(['backup']);
        assert.doesNotMatch(stderr, /\bat .*\.ts:/);
      },
    );
    await wrongWays(t, project, tars);
  },
);

/** The same project, and a tars.yaml that is wrong about it. */
async function wrongWays(t: TestContext, project: StartedProject, tars: TarsOn): Promise<void> {
  await t.test('a project that is not there: those that are there are named', async () => {
    await using other = await tarsOn(project, {
      compose: 'v2',
      settings: { docker: { project: 'unheard-of', host: project.engine.host } },
    });
    const { exitCode, stderr } = await other.run(['backup']);
    assert.equal(exitCode, 1);
    assert.match(stderr, /The Engine has no containers of the project unheard-of/);
    assert.match(stderr, /Correct docker\.project/);
    assert.ok(stderr.includes(project.name), stderr);
    assert.equal((await other.ok(['snapshots', '--json'])).stdout.trim(), '[]', 'nothing is published');
  });

  await t.test('DOCKER_HOST that leads nowhere', async () => {
    await using other = await tarsOn(project, {
      compose: 'v2',
      settings: { docker: { project: project.name } },
    });
    const nowhere = await other.run(['backup'], { DOCKER_HOST: 'unix:///nonexistent/docker.sock' });
    assert.equal(nowhere.exitCode, 1);
    assert.match(nowhere.stderr, /the Docker Engine does not answer \(ENOENT\)/);
    assert.match(nowhere.stderr, /DOCKER_HOST/);
    const closed = await other.run(['backup'], { DOCKER_HOST: 'tcp://127.0.0.1:1' });
    assert.equal(closed.exitCode, 1);
    assert.match(closed.stderr, /the Docker Engine does not answer \(ECONNREFUSED\)/);
    const ssh = await other.run(['backup'], { DOCKER_HOST: 'ssh://somebody@example.org' });
    assert.equal(ssh.exitCode, 1);
    assert.match(ssh.stderr, /reached over SSH, which tars does not support/);
    assert.equal((await other.ok(['snapshots', '--json'])).stdout.trim(), '[]');
  });

  await t.test('a user who may not talk to the Engine', { skip: root ? false : 'needs root' }, async () => {
    const home = await mkdtemp(join(tmpdir(), 'tars-nobody-'));
    const socket = join(home, 'docker.sock');
    await using server = createServer().listen(socket);
    await once(server, 'listening');
    try {
      await chmod(home, 0o755);
      await chmod(socket, 0o600);
      const theirs = join(home, 'theirs');
      await mkdir(theirs);
      await cp(join(tars.directory, 'repository'), join(theirs, 'repository'), { recursive: true });
      const settings = {
        ...{ version: 1, stack: 'home', state_dir: join(theirs, 'state') },
        repository: { path: join(theirs, 'repository') },
        docker: { project: project.name, host: `unix://${socket}` },
        components: { redis: { service: 'redis' } },
      };
      await writeFile(join(theirs, 'tars.yaml'), stringify(settings));
      await execa('chown', ['-R', `${nobody}:${nobody}`, theirs]);
      const run = await execa(process.execPath, [cliPath, 'backup', '--config', join(theirs, 'tars.yaml')], {
        ...{ reject: false, uid: nobody, gid: nobody, cwd: theirs, stdin: 'ignore' },
        env: { TARS_PASSWORD: 'quite-long-enough', HOME: theirs, NO_COLOR: '1' },
      });
      assert.equal(run.exitCode, 1);
      assert.match(run.stderr, /this user may not talk to the Docker Engine/);
      assert.match(run.stderr, /add the user to the group docker/);
    } finally {
      await rm(home, { recursive: true, force: true });
    }
  });
}
