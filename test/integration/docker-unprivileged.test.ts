import { execa } from 'execa';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chown, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import type { Manifest } from '../../src/model/manifest.ts';
import { cliPath, type CliRun } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { compareWithLedger } from '../fixtures/docker/ledger.ts';
import { remains, startProject, type StartedProject } from '../fixtures/docker/project.ts';

const docker = await dockerForTests();
const skip = docker.skip || (process.getuid?.() === 0 ? false : 'creating a user needs root');

interface Operator extends AsyncDisposable {
  readonly home: string;
  tars(...args: readonly string[]): Promise<CliRun>;
  ok(...args: readonly string[]): Promise<string>;
}

/** A user who may talk to the Engine and reach nothing below its directory. */
async function createOperator(project: StartedProject): Promise<Operator> {
  await using cleanup = new AsyncDisposableStack();
  const name = `tars${randomBytes(4).toString('hex')}`;
  const home = await mkdtemp(join(tmpdir(), `tars-home-of-${name}-`));
  cleanup.defer(() => rm(home, { recursive: true, force: true }));
  await execa('useradd', ['--no-create-home', '--home-dir', home, '--groups', 'docker', name]);
  cleanup.defer(async () => {
    await execa('userdel', ['--force', name], { reject: false });
  });
  const uid = Number((await execa('id', ['-u', name])).stdout);
  await chown(home, uid, uid);
  const { layout } = project;
  const settings = {
    version: 1,
    stack: 'home',
    repository: { path: join(home, 'repository'), password_file: join(home, 'key') },
    state_dir: join(home, 'state'),
    scratch_dir: join(home, 'scratch'),
    docker: { project: project.name, host: docker.engine.host },
    components: {
      postgres: { service: layout.postgres.service },
      redis: { service: layout.redis.service },
      chroma: { service: layout.chroma.service },
      ollama: { service: layout.ollama.service, models: 'all' },
    },
    services: { [layout.backend.service]: { writer: true } },
  };
  await writeFile(join(home, 'tars.yaml'), stringify(settings));
  await writeFile(join(home, 'key'), 'quite-long-enough\n', { mode: 0o600 });
  await mkdir(join(home, 'scratch'), { mode: 0o700 });
  for (const file of ['tars.yaml', 'key', 'scratch']) await chown(join(home, file), uid, uid);
  const node = ['--user', name, '--', 'env', `HOME=${home}`, 'NO_COLOR=1', process.execPath, cliPath];
  const run: Operator['tars'] = async (...args) => {
    const all = [...node, ...args, '--config', join(home, 'tars.yaml')];
    const { exitCode, stdout, stderr } = await execa('runuser', all, {
      ...{ reject: false, stdin: 'ignore' as const, cwd: home },
    });
    return { exitCode, stdout, stderr };
  };
  const owned = cleanup.move();
  return {
    home,
    tars: run,
    async ok(...args) {
      const { exitCode, stdout, stderr } = await run(...args);
      assert.equal(exitCode, 0, `tars ${args.join(' ')}:\n${stderr}\n${stdout}`);
      return stdout;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

test(
  'a user of the group docker backs up and restores what no path leads to, the backend writing all the time',
  { skip },
  async (t) => {
    await using project = await startProject({
      ...{ engine: docker.engine, prefix: 'vx-user-', composeVersion: 'v1', file: 'tars-home' },
    });
    await using operator = await createOperator(project);
    await project.exec('ollama', ['ollama', 'pull', 'llama3.2:1b']);
    await project.writesOn(40);
    await operator.ok('init');
    await operator.ok('backup');
    const shown = JSON.parse(await operator.ok('show', '--json')) as { manifest: Manifest };
    const { manifest } = shown;
    assert.equal(manifest.outcome, 'complete');
    const methods = manifest.components.map(({ name, method }) => `${name} ${method ?? 'none'}`);
    assert.deepEqual(methods.sort(), [
      'chroma physical-frozen',
      'ollama physical',
      'postgres pg_dump',
      'redis replication',
    ]);
    const chroma = manifest.components.find(({ name }) => name === 'chroma');
    t.diagnostic(`writerPauseMs ${manifest.writerPauseMs}, Chroma blocked ${chroma?.writesBlockedMs} ms`);
    assert.ok((chroma?.writesBlockedMs ?? 0) > 0);
    assert.equal(manifest.consistency, 'cut');
    const cutMs = Date.parse(manifest.time);

    await project.writesOn(10);
    await project.compose('down', '--volumes');
    assert.deepEqual(await remains(docker.engine, project.name), []);
    const restored = await operator.ok('restore', '--yes');
    assert.match(restored, /docker run --rm --user 0:0 --network none/);
    await project.waitHealthy();
    await project.writesOn(10);
    await project.docker('stop', await project.container('backend'));
    const entries = await project.ledger();
    assert.deepEqual(await compareWithLedger(project, entries, { acknowledgedBeforeMs: cutMs }), []);
    await project.exec('ollama', ['ollama', 'verify']);
    assert.equal(await project.exec('ollama', ['ollama', 'list']), 'llama3.2:1b');
    assert.deepEqual(await readdir(join(operator.home, 'scratch')), []);
    const ofProject = ['--filter', `volume=${project.name}_chroma_data`, '--filter', 'label=com.tars.helper'];
    assert.equal(await docker.engine.docker(['ps', '--all', '--quiet', ...ofProject]), '');
  },
);
