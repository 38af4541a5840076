import { execa } from 'execa';
import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createRedisComponent } from '../../src/components/redis/index.ts';
import { startRedis, type PrivateRedis } from '../../src/demo/servers/redis.ts';
import { RestoreRefusedError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import { redisWord, redisWords } from '../../src/model/redis-words.ts';
import { recovery } from '../../src/components/redis/recovery.ts';
import type { Component } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';
import { clientOf, disposable } from '../fixtures/redis.ts';

const ctx = testContext();
const names = {
  dbfilename: `my "db' #ü.rdb`,
  appenddirname: `log dir's`,
  appendfilename: `a "b' ü# $HOME\``,
};
const lines = Object.entries(names).map(([name, value]) => `${name} ${redisWord(value)}`);

let root: string;
let out: string;
let server: PrivateRedis;
let component: Component;
let captured: ComponentManifest;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-redis-names-'));
  const directory = join(root, `we"ird 'dir' #ü`);
  await mkdir(directory);
  server = await startRedis(directory, ctx, { appendOnly: true, lines });
  out = join(root, 'out');
  component = createRedisComponent({
    name: 'redis',
    service: 'redis',
    host: server.host,
    port: server.port,
    username: undefined,
    password: undefined,
    dataDir: server.dataDir,
    scratchDir: join(root, 'scratch'),
  });
  await set('captured');
  const sink = createDirectorySink(out, { encrypted: true });
  await using prepared = await component.prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  const { facts, serverVersion = '' } = await prepared.capture(sink, ctx);
  captured = {
    ...{ name: 'redis', kind: 'redis', outcome: 'captured', serverVersion, facts: { ...facts } },
    artifacts: [...sink.artifacts],
  };
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

async function set(value: string): Promise<void> {
  await using client = disposable(clientOf(server));
  await client.redis.set('k', value);
}
async function get(from = server): Promise<string | null> {
  await using client = disposable(clientOf(from));
  return await client.redis.get('k');
}

test('names with blanks, quotes, # and letters beyond ASCII are restored, and back again by hand', async () => {
  await set('later');
  const planned = await component.planRestore(
    captured,
    { restoreConfig: false, restoreId: 'r1' },
    ctx,
    noArtifacts,
  );
  const staged = await planned.stage(createDirectorySource(out), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await server.stop();
  await staged.swap(ctx);
  await server.start();
  assert.equal(await get(), 'captured');
  await server.stop();
  await execa('sh', ['-eu', '-c', staged.record.wayBack.join('\n')]);
  await server.start();
  assert.equal(await get(), 'later');
});

test('the lines of the recovery kit write files that the server starts on', async () => {
  const rescue = join(root, 'rescue');
  await cp(out, rescue, { recursive: true });
  const data = join(root, `fresh 'server'`, 'data');
  const step = recovery.step(
    { component: captured, home: { directory: data }, compose: undefined },
    undefined,
  );
  await execa('sh', ['-eu', '-c', step.commands.join('\n')], { cwd: rescue });
  assert.deepEqual((await readdir(data)).sort(), [names.appenddirname, names.dbfilename].sort());
  await using fresh = await startRedis(join(root, `fresh 'server'`), ctx, { appendOnly: true, lines });
  assert.equal(await get(fresh), 'captured');
});

test('a name that is not UTF-8 is refused before anything is staged', async () => {
  const facts = { ...captured.facts, persistence: { ...names, dbFilename: 'd\ufffd.rdb' } };
  await server.stop();
  const persistence = { dbFilename: 'd\ufffd.rdb', appendDirName: 'a', appendFilename: 'b' };
  await assert.rejects(
    component.planRestore(
      { ...captured, facts: { ...facts, persistence } },
      { restoreConfig: false, restoreId: 'r2' },
      ctx,
      noArtifacts,
    ),
    (error) =>
      error instanceof RestoreRefusedError && /dbfilename is not encoded in UTF-8/.test(error.message),
  );
  await server.start();
});

test('words are written and read as Redis does it', () => {
  const values = ['plain', '', 'a b', `"'\\`, 'ü#', '\n\r\t\x07\b\x00', '$HOME `x`'];
  for (const value of values) assert.deepEqual(redisWords(`set ${redisWord(value)}`), ['set', value]);
  assert.deepEqual(redisWords(`  save   "" # x`), ['save', '', '#', 'x']);
  assert.deepEqual(redisWords(`user 'it\\'s' "\\x41\\q"`), ['user', `it's`, 'Aq']);
  for (const broken of ['a "b', `a "b"c`, `a 'b`]) assert.equal(redisWords(broken), undefined, broken);
});
