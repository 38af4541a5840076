import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import pg from 'pg';
import { startChroma } from '../../src/demo/servers/chroma.ts';
import { startPostgres } from '../../src/demo/servers/postgres.ts';
import { startRedis } from '../../src/demo/servers/redis.ts';
import { testContext } from '../fixtures/context.ts';

test('private PostgreSQL, Redis and Chroma start, stop and start again with their data', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-servers-'));
  await chmod(root, 0o755);
  t.after(() => rm(root, { recursive: true, force: true }));
  const ctx = testContext();
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
