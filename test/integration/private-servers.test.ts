import { execa } from 'execa';
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import pg from 'pg';
import { startChroma } from '../../src/demo/servers/chroma.ts';
import { freePort, type PickPort, type PrivateServer } from '../../src/demo/servers/common.ts';
import { startPostgres } from '../../src/demo/servers/postgres.ts';
import { startRedis } from '../../src/demo/servers/redis.ts';
import { createProcessRuntime } from '../../src/runtimes/process/index.ts';
import { ServiceUnavailableError } from '../../src/model/errors.ts';
import { testContext } from '../fixtures/context.ts';
import { processesOf } from '../fixtures/leftovers.ts';
import { startTestPostgres, startTestStack } from '../fixtures/postgres-cluster.ts';
import { eventually } from '../fixtures/processes.ts';

const ctx = testContext();

type Start = (directory: string, pickPort: PickPort) => Promise<PrivateServer>;
const starts: Readonly<Record<string, Start>> = {
  PostgreSQL: (directory, pickPort) => startTestPostgres(directory, { pickPort }),
  Redis: (directory, pickPort) => startRedis(directory, ctx, { password: 'pw-1234567', pickPort }),
  Chroma: (directory, pickPort) => startChroma(directory, ctx, pickPort),
};

interface Place extends AsyncDisposable {
  readonly root: string;
}

async function place(): Promise<Place> {
  const root = await mkdtemp(join(tmpdir(), 'tars-servers-'));
  await chmod(root, 0o755);
  return { root, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
}

/** A port somebody listens on and answers nothing. */
async function takenPort(): Promise<AsyncDisposable & { readonly port: number }> {
  const port = await freePort();
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => void server.close(() => resolve())),
  };
}

test('private PostgreSQL, Redis and Chroma start, stop and start again with their data', async () => {
  await using here = await place();
  const { root } = here;
  await using postgres = await startPostgres(join(root, 'postgres'));
  await using redis = await startRedis(join(root, 'redis'), ctx, {
    appendOnly: true,
    password: 'pw-1234567',
  });
  await using chroma = await startChroma(join(root, 'chroma'), ctx);
  const connect = async (): Promise<pg.Client> => {
    const client = new pg.Client({ ...postgres, database: 'postgres' });
    await client.connect();
    return client;
  };
  const first = await connect();
  await first.query('CREATE TABLE kept AS SELECT 42 AS answer');
  await first.end();
  for (const server of [postgres, redis, chroma]) {
    await server.stop();
    await server.start();
  }
  const second = await connect();
  assert.deepEqual((await second.query('SELECT answer FROM kept')).rows, [{ answer: 42 }]);
  await second.end();
  assert.equal((await fetch(`${chroma.url}/api/v2/version`)).status, 200);
});

test('a free port is none that the kernel gives to others', async () => {
  const range = await readFile('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
  const [low = 0, high = 0] = range.trim().split(/\s+/).map(Number);
  for (let n = 0; n < 50; n++) {
    const port = await freePort();
    assert.ok(port >= 1024 && (port < low || port > high), `${port} is in ${range}`);
  }
});

for (const [name, start] of Object.entries(starts)) {
  test(`${name} starts on another port when its like has taken the first meanwhile`, async () => {
    await using here = await place();
    await using first = await start(join(here.root, 'first'), freePort);
    const picks = [first.port];
    await using second = await start(
      join(here.root, 'second'),
      async () => picks.pop() ?? (await freePort()),
    );
    assert.notEqual(second.port, first.port);
    assert.deepEqual(picks, []);
  });

  test(`${name} that finds no port says why, and leaves no process`, async () => {
    await using here = await place();
    await using taken = await takenPort();
    let picked = 0;
    const pick: PickPort = () => {
      picked++;
      return Promise.resolve(taken.port);
    };
    await assert.rejects(
      start(here.root, pick),
      (error) =>
        error instanceof ServiceUnavailableError &&
        error.message.includes(`${name} on port ${taken.port}`) &&
        /in use|not available/.test(error.message),
    );
    assert.ok(picked > 1 && picked < 20, `${picked} attempts`);
    assert.deepEqual(await processesOf(here.root), []);
  });

  test(`${name} that was started by somebody else in the meantime is stopped all the same`, async () => {
    await using here = await place();
    await using server = await start(here.root, freePort);
    await server.stop();
    // As a restore starts it: in a session of its own, known by its pid file.
    const options = { pidFile: server.pidFile, dependsOn: [], stopTimeoutMs: 20_000, startTimeoutMs: 20_000 };
    const how = name === 'Chroma' ? { command: server.startCommand } : { start: server.startCommand };
    const runtime = createProcessRuntime({ services: { store: { ...options, ...how } }, writers: {} });
    await runtime.start('store', ctx);
    await eventually('it runs', async () => (await runtime.discover(ctx))[0]?.state === 'running');
    await server.stop();
    assert.deepEqual(await processesOf(here.root), []);
    await server.stop();
  });
}

test('a pid that was given to another program is not stopped', async () => {
  await using here = await place();
  await using redis = await startRedis(here.root, ctx);
  await redis.stop();
  const other = execa('sleep', ['60'], { reject: false });
  await execa('sh', ['-c', `echo ${other.pid ?? 0} > '${redis.pidFile}'`]);
  await redis.stop();
  other.kill('SIGKILL');
  assert.equal((await other).signal, 'SIGKILL');
});

test('a stack whose user fails leaves no process and no directory', async () => {
  let root = '';
  const failing = async (): Promise<void> => {
    await using here = await place();
    root = here.root;
    await using demo = await startTestStack(root, ctx);
    assert.ok((await processesOf(root)).length >= 2, demo.root);
    throw new Error('deliberate');
  };
  await assert.rejects(failing, /deliberate/);
  assert.deepEqual(await processesOf(root), []);
  await assert.rejects(readFile(root), { code: 'ENOENT' });
});

test('a stack that starts only in part leaves no process', async () => {
  await using here = await place();
  // PostgreSQL starts; nothing that has to be waited for does.
  const clock = { ...ctx.clock, sleep: () => Promise.reject(new Error('deliberate')) };
  await assert.rejects(startTestStack(here.root, { ...ctx, clock }));
  assert.deepEqual(await processesOf(here.root), []);
});
