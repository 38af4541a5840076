import assert from 'node:assert/strict';
import { readFile, rm, writeFile, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { removeProject } from '../fixtures/docker/project.ts';
import { smallProject } from '../fixtures/docker/small-project.ts';

const docker = await dockerForTests();

const idle = { image: 'tars-test/backend:1', command: ['sleep', '600'], init: true };
const secretFile = 'outside/pw.txt';

const unlessBroken =
  '[ ! -e /flags/broken ] || { echo the cause of it; exit 1; }; exec postgres-entrypoint.sh postgres';

const services = {
  db: {
    image: 'postgres:15-tars-test',
    environment: { POSTGRES_PASSWORD_FILE: '/run/secrets/pw' },
    volumes: ['data:/var/lib/postgresql/data', `./${secretFile}:/run/secrets/pw:ro`, './flags:/flags:ro'],
    entrypoint: ['sh', '-c', unlessBroken],
    healthcheck: { test: ['CMD', 'pg_isready', '-h', '127.0.0.1'], interval: '1s', retries: 60 },
  },
  web: { ...idle, depends_on: ['db'], volumes: ['./conf:/etc/web/conf'] },
};

test(
  'a password that only the snapshot holds, and a restore that fails and is then repeated',
  { skip: docker.skip },
  async () => {
    await using small = await smallProject(docker.engine, 'co-', services, { volumes: ['data'] });
    const { directory } = small;
    for (const name of ['outside', 'flags']) await mkdir(join(directory, name));
    await writeFile(join(directory, secretFile), 'quiet-harbour-77\n', { mode: 0o644 });
    await small.compose('up', '-d', '--wait');
    const psql = (sql: string): Promise<string> =>
      small.project.exec('db', ['psql', '-U', 'postgres', '-Atc', sql]);
    await psql('CREATE TABLE note AS SELECT 7 AS n');
    await small.project.exec('web', ['sh', '-c', 'echo a=1 >/etc/web/conf/a.conf']);
    const env = {
      TARS_PASSWORD: 'long enough',
      XDG_STATE_HOME: join(directory, 'state'),
      DOCKER_HOST: docker.engine.host,
    };
    const run = (...args: readonly string[]): Promise<CliRun> => tars(args, { cwd: directory, env });
    const ok = async (...args: readonly string[]): Promise<CliRun> => {
      const done = await run(...args);
      assert.equal(done.exitCode, 0, `tars ${args.join(' ')}:\n${done.stderr}\n${done.stdout}`);
      return done;
    };
    await ok('init', '--project', small.name);
    await ok('backup');
    const lose = async (): Promise<void> => {
      await removeProject(docker.engine, small.name);
      for (const name of ['conf', 'outside', 'docker-compose.yml'])
        await rm(join(directory, name), { recursive: true, force: true });
    };
    const records = async (): Promise<readonly string[]> =>
      readdir(join(directory, 'state/tars/restores')).catch(() => []);

    await lose();
    const plan = await ok('restore', '--dry-run');
    assert.match(plan.stdout, /Restore postgres into its new container/);
    await ok('restore', '--yes');
    const whole = async (): Promise<void> => {
      assert.equal(await psql('SELECT n FROM note'), '7');
      assert.equal(await readFile(join(directory, 'conf/a.conf'), 'utf8'), 'a=1\n');
      assert.equal(await readFile(join(directory, secretFile), 'utf8'), 'quiet-harbour-77\n');
    };
    await whole();

    // The mount is gone below a container that exists: root may do all, so rights are not the cause.
    await small.compose('stop', 'web');
    await rm(join(directory, 'conf'), { recursive: true });
    const lacking = await run('restore', '--dry-run', '--component', 'conf');
    assert.equal(lacking.exitCode, 1);
    assert.match(
      lacking.stderr,
      /conf, which web mounts, is not on this machine\n +Create the directory, or start web/,
    );
    await ok('restore', '--yes', '--component', 'conf');
    await whole();
    const kept = await records();

    // A directory cannot be created, and what was staged cannot be looked for: the next verbs do their work all the same.
    await lose();
    await writeFile(join(directory, 'conf'), 'in the way');
    for (const attempt of [1, 2]) {
      const failed = await run('restore', '--yes');
      assert.equal(failed.exitCode, 1, `${attempt}: ${failed.stdout}`);
      assert.match(failed.stderr, /The restore failed/);
      assert.doesNotMatch(failed.stderr, /another process|is running|Run tars verify/);
    }
    const status = await run('status');
    assert.doesNotMatch(status.stderr, /secret file/);
    assert.deepEqual(await records(), kept, 'nothing is left to recover');
    await rm(join(directory, 'conf'));

    // The server ends at its start: its log goes with its container, so the end of it is in the error.
    await writeFile(join(directory, 'flags/broken'), '');
    const ended = await run('restore', '--yes');
    assert.equal(ended.exitCode, 1);
    assert.match(ended.stderr, /has stopped again after its start/);
    assert.match(ended.stderr, /The end of the log of db, whose container is removed:\n +\| the cause of it/);
    assert.match(ended.stderr, /Read the end of its log above/);
    assert.deepEqual(await records(), kept);
    await rm(join(directory, 'flags/broken'));
    await ok('restore', '--yes');
    await whole();
  },
);
