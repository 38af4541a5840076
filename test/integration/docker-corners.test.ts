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

const services = {
  db: {
    image: 'postgres:15-tars-test',
    environment: { POSTGRES_PASSWORD_FILE: '/run/secrets/pw' },
    volumes: ['data:/var/lib/postgresql/data', `./${secretFile}:/run/secrets/pw:ro`],
    healthcheck: { test: ['CMD', 'pg_isready', '-h', '127.0.0.1'], interval: '1s', retries: 60 },
  },
  web: { ...idle, depends_on: ['db'], volumes: ['./conf:/etc/web/conf.d'] },
};

test(
  'a password that only the snapshot holds, and a restore that fails and is then repeated',
  { skip: docker.skip },
  async () => {
    await using small = await smallProject(docker.engine, 'co-', services, { volumes: ['data'] });
    const { directory } = small;
    await mkdir(join(directory, 'outside'));
    await writeFile(join(directory, secretFile), 'quiet-harbour-77\n', { mode: 0o644 });
    await small.compose('up', '-d', '--wait');
    const psql = (sql: string): Promise<string> =>
      small.project.exec('db', ['psql', '-U', 'postgres', '-Atc', sql]);
    await psql('CREATE TABLE note AS SELECT 7 AS n');
    await small.project.exec('web', ['sh', '-c', 'echo a=1 >/etc/web/conf.d/a.conf']);
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
    // The directory of web cannot be created.
    await writeFile(join(directory, 'conf'), 'in the way');
    for (const args of [['doctor'], ['restore', '--dry-run'], ['restore', '--yes'], ['status'], ['restore', '--yes'], ['verify']]) {
      const r = await run(...args);
      console.log('=====', args.join(' '), r.exitCode, '\n', r.stderr, r.stdout);
    }
    console.log(await records());
    await rm(join(directory, 'conf'));
    const r = await run('restore', '--yes');
    console.log(r.exitCode, r.stderr, r.stdout);
    assert.equal(await psql('SELECT n FROM note'), '7');
    assert.equal(await readFile(join(directory, 'conf/a.conf'), 'utf8'), 'a=1\n');
    console.log(await records());
  },
);
