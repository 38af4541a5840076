import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import pg from 'pg';
import { createPostgresComponent, type PostgresOptions } from '../../src/components/postgres/index.ts';
import type { ServerContainer } from '../../src/ports/store-place.ts';
import type { ProgramCall, ProgramRunner } from '../../src/ports/programs.ts';
import { connectEngine } from '../../src/runtimes/docker/engine/engine.ts';
import { containerRunner } from '../../src/runtimes/docker/engine/exec.ts';
import { testContext } from '../fixtures/context.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { allRows, takeSnapshot } from '../fixtures/postgres.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const { skip } = docker;
const ctx = testContext();
const password = `p'a"ss ${randomBytes(4).toString('hex')}`;
const database = `Odd "db" = 'x' %`;

interface Bench extends AsyncDisposable {
  readonly root: string;
  /** No program of this machine is found with these. */
  readonly options: PostgresOptions & { readonly container: ServerContainer };
  /** What ran in the container. */
  readonly calls: readonly ProgramCall[];
  connect(name: string): Promise<pg.Client>;
}

async function startBench(): Promise<Bench> {
  await using cleanup = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), 'tars-inside-'));
  cleanup.defer(() => rm(root, { recursive: true, force: true }));
  const name = `vx-pg-${randomBytes(4).toString('hex')}`;
  const environment = ['-e', `POSTGRES_PASSWORD=${password}`, '-e', 'POSTGRES_USER=keeper'];
  const args = ['run', '--detach', '--name', name, ...environment, 'postgres:15-tars-test'];
  cleanup.defer(async () => {
    await docker.engine.docker(['rm', '--force', '--volumes', name]);
  });
  // On another port than the one it is reached at from here would be, were that one published.
  const id = await docker.engine.docker([...args, 'postgres', '-p', '5544']);
  const format = '{{.NetworkSettings.IPAddress}}';
  const host = await docker.engine.docker(['inspect', '--format', format, name]);
  const inContainer = containerRunner(await connectEngine({ host: docker.engine.host }), id);
  const calls: ProgramCall[] = [];
  const runner: ProgramRunner = {
    output: (call, signal) => (calls.push(call), inContainer.output(call, signal)),
    feed: (call, input, signal) => (calls.push(call), inContainer.feed(call, input, signal)),
  };
  const connect = async (to: string): Promise<pg.Client> => {
    const client = new pg.Client({ host, port: 5544, user: 'keeper', password, database: to });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };
  await eventually(
    'PostgreSQL answers',
    () =>
      connect('postgres').then(
        (client) => client.end().then(() => true),
        () => false,
      ),
    60_000,
  );
  const options = {
    ...{ name: 'postgres', service: 'db', host, port: 5544, user: 'keeper', password, scratchDir: root },
    databases: [database],
    clientBinDir: join(root, 'nothing-here'),
    container: { name: 'db', runner, port: 5544 },
  };
  const owned = cleanup.move();
  return { root, options, calls, connect, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

test('a server is dumped and restored with the programs in its container', { skip }, async () => {
  await using bench = await startBench();
  const { options, calls } = bench;
  const admin = await bench.connect('postgres');
  await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(database)}`);
  const first = await bench.connect(database);
  await first.query(`CREATE TABLE notes (id int PRIMARY KEY, body text);
    INSERT INTO notes SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 5000) i;
    CREATE ROLE reader LOGIN PASSWORD 'secret'; GRANT SELECT ON notes TO reader`);
  const before = await allRows(first);
  const component = createPostgresComponent(options);
  const snapshot = await takeSnapshot(component, join(bench.root, 'snapshot'));
  await first.query('DELETE FROM notes WHERE id > 10');
  await first.end();

  const planned = await component.planRestore(
    snapshot.manifest,
    { restoreConfig: false, restoreId: 'r1' },
    ctx,
    snapshot.source,
  );
  assert.deepEqual(planned.plan.warnings, [], 'its disk is not out of sight');
  const full = createPostgresComponent({ ...options, container: onFullDisk(options.container) });
  await assert.rejects(
    full.planRestore(snapshot.manifest, { restoreConfig: false, restoreId: 'r2' }, ctx, snapshot.source),
    /Not enough space in \S+ of its container .*: needs \d+ bytes, 1024 are free/,
  );
  const staged = await planned.stage(snapshot.source, ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.swap(ctx);
  const second = await bench.connect(database);
  assert.deepEqual(await allRows(second), before);
  await second.end();
  await admin.end();

  const ran = new Set(calls.map(({ path }) => path.split('/').at(-1)));
  assert.deepEqual(ran, new Set(['sh', 'df', 'pg_dump', 'pg_dumpall', 'pg_restore']));
  for (const { args } of calls) assert.ok(!args.join(' ').includes(password), 'a password among arguments');
});

/** The same container, whose `df` finds next to nothing free. */
const onFullDisk = (container: ServerContainer): ServerContainer => ({
  ...container,
  runner: {
    ...container.runner,
    async *output(call, signal) {
      for await (const piece of container.runner.output(call, signal)) {
        const text = Buffer.from(piece).toString('latin1');
        yield call.path === 'df' ? Buffer.from(text.replace(/\d+(\s+\d+%)/, '1$1')) : piece;
      }
    },
  },
});

test('programs of this machine are preferred, and none anywhere is an error', { skip }, async () => {
  const calls: ProgramCall[] = [];
  const runner = (directory: string): ProgramRunner => ({
    async *output(call) {
      calls.push(call);
      yield await Promise.resolve(Buffer.from(`${directory} pg_dump (PostgreSQL) 14.2\n`));
    },
    feed: () => Promise.reject(new Error('nothing is restored')),
  });
  await using bench = await startBench();
  const { clientBinDir: _, ...options } = bench.options;
  const onHost = createPostgresComponent({
    ...{ ...options, databases: ['postgres'] },
    container: { name: 'db', runner: runner('/usr/bin'), port: 5432 },
  });
  await takeSnapshot(onHost, join(bench.root, 'host'));
  assert.deepEqual(calls, []);
  const tooOld = createPostgresComponent({
    ...{ ...bench.options, databases: ['postgres'] },
    container: { name: 'db', runner: runner('/usr/bin'), port: 5432 },
  });
  await assert.rejects(tooOld.prepare(ctx), { code: 'unsupported-version' });
  assert.equal(calls.length, 1);
});
