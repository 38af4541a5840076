import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { cheapenKey } from '../fixtures/cheap-key.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { eventually } from '../fixtures/processes.ts';
import { smallProject, type SmallProject } from '../fixtures/docker/small-project.ts';

const docker = await dockerForTests();
const root = process.getuid?.() === 0;
const megabyte = 1 << 20;
const password = 'quite-long-enough';

const setting = (text: string): string[] => ['-c', text];

/** PostgreSQL on a disk of its own. */
const services = {
  store: {
    image: 'postgres:15-tars-test',
    environment: { POSTGRES_PASSWORD: 'roomy-42' },
    // So that what fills the disk is what is restored, and what it is sorted in meanwhile.
    command: [
      'postgres',
      ...['max_wal_size=32MB', 'min_wal_size=32MB', 'maintenance_work_mem=1MB'].flatMap(setting),
    ],
    volumes: ['./disk/data:/var/lib/postgresql/data'],
    healthcheck: { test: ['CMD', 'pg_isready', '-h', '127.0.0.1'], interval: '1s', retries: 60 },
    restart: 'unless-stopped',
  },
};

test(
  'a disk that gets full during a restore: said, the previous data stays, and with room it succeeds',
  { skip: docker.skip || (root ? false : 'needs root') },
  async (t) => {
    await using small = await smallProject(docker.engine, 'fd-', services);
    const disk = join(small.directory, 'disk');
    await mkdir(disk);
    const { failed } = await execa('mount', ['-t', 'tmpfs', '-o', 'size=400m', 'tmpfs', disk], {
      reject: false,
    });
    if (failed) {
      t.skip('mounting is not allowed here');
      return;
    }
    try {
      await fillUp(small, disk);
    } finally {
      await small.compose('down', '--timeout', '1');
      await execa('umount', [disk]);
    }
  },
);

async function fillUp(small: SmallProject, disk: string): Promise<void> {
  await mkdir(join(disk, 'data'));
  await small.compose('up', '-d', '--wait');
  const sql = (query: string): Promise<string> =>
    small.project.exec('store', ['psql', '-U', 'postgres', '-tA', '-c', query]);
  // Building indexes takes more room than they do afterwards, which nobody can tell from the snapshot.
  await sql('CREATE TABLE kept AS SELECT g AS id, md5(g::text) AS body FROM generate_series(1, 200000) g');
  for (const columns of ['body', 'id, body', 'body, id']) await sql(`CREATE INDEX ON kept (${columns})`);
  const run = await tarsOn(small);
  assert.equal((await run('init')).exitCode, 0);
  await cheapenKey(join(small.directory, 'repository'), password);
  const backup = await run('backup', '--json');
  assert.equal(backup.exitCode, 0, backup.stderr);
  await sql("UPDATE kept SET body = 'live' WHERE id = 1");
  const started = await inspected(small, '{{.State.StartedAt}}');

  const filler = join(disk, 'filler');
  await leaveFree(disk, filler, 12 * megabyte);
  const refused = await run('restore', '--yes');
  assert.equal(refused.exitCode, 1);
  const needed = /Not enough space in \S+ of its container .*: needs (\d+) bytes/.exec(refused.stderr)?.[1];
  assert.ok(needed, refused.stderr);
  await rm(filler);
  await leaveFree(disk, filler, Number(needed) + megabyte);
  const full = await run('restore', '--yes');
  assert.equal(full.exitCode, 1, full.stdout);
  // It says why, unless its server fell over the full disk before it could.
  assert.match(full.stderr, /Cannot restore database "postgres"/);
  assert.match(full.stderr, /Nothing live was changed|no live data had changed/);
  await rm(filler);
  // PostgreSQL ends all its processes when it cannot write its log, and recovers; its health check lags behind.
  const answers = async (): Promise<boolean> =>
    (await sql('SELECT pg_is_in_recovery()').catch(() => 'not yet')) === 'f';
  await eventually('the store answers', answers, 60_000);
  assert.equal(await sql('SELECT body FROM kept WHERE id = 1'), 'live');
  assert.equal(await sql('SELECT count(*) FROM kept'), '200000');
  // Where its recovery found no room either, it has ended, and the Engine has started it again.
  if ((await inspected(small, '{{.RestartCount}}')) === '0')
    assert.equal(await inspected(small, '{{.State.StartedAt}}'), started, 'its container was not restarted');

  // What could not be removed then is now.
  await run('snapshots');
  assert.equal(await sql('SELECT count(*) FROM pg_database WHERE NOT datistemplate'), '1', 'nothing stays');
  const restored = await run('restore', '--yes');
  assert.equal(restored.exitCode, 0, restored.stderr);
  assert.equal(await sql('SELECT body = md5(id::text) FROM kept WHERE id = 1'), 't');
}

const inspected = async (small: SmallProject, format: string): Promise<string> =>
  docker.engine.docker(['inspect', '--format', format, await small.project.container('store')]);

async function leaveFree(disk: string, filler: string, freeBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(disk);
  await execa('fallocate', ['-l', `${bavail * bsize - freeBytes}`, filler]);
}

async function tarsOn(small: SmallProject): Promise<(...args: readonly string[]) => Promise<CliRun>> {
  const settings = {
    ...{ version: 1, stack: 'roomy', repository: { path: './repository' }, state_dir: './state' },
    docker: { project: small.name, host: docker.engine.host },
    components: { postgres: { service: 'store' } },
  };
  await writeFile(join(small.directory, 'tars.yaml'), stringify(settings), { mode: 0o600 });
  const env = { TARS_PASSWORD: password };
  return (...args) => tars(args, { cwd: small.directory, env });
}
