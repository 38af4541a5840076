import { execa } from 'execa';
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createRedisComponent, type RedisOptions } from '../../src/components/redis/index.ts';
import { startRedis, type PrivateRedis } from '../../src/demo/servers/redis.ts';
import { TarsError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import { recovery } from '../../src/components/redis/recovery.ts';
import type { Component } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';
import { clientOf, disposable } from '../fixtures/redis.ts';

const ctx = testContext();
let root: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-redis-beside-'));
});
after(() => rm(root, { recursive: true, force: true }));

const componentFor = (server: PrivateRedis, options: Partial<RedisOptions> = {}): Component =>
  createRedisComponent({
    name: 'redis',
    service: 'redis',
    host: server.host,
    port: server.port,
    username: undefined,
    password: undefined,
    dataDir: server.dataDir,
    scratchDir: join(root, 'scratch'),
    ...options,
  });

async function started(name: string, lines: readonly string[]): Promise<PrivateRedis> {
  await mkdir(join(root, name));
  return startRedis(join(root, name), ctx, { lines });
}

async function call(server: PrivateRedis, ...[name = '', ...args]: string[]): Promise<unknown> {
  await using client = disposable(clientOf(server));
  return await client.redis.call(name, ...args);
}

async function capture(
  component: Component,
  out: string,
  { encrypted = true, context = ctx } = {},
): Promise<ComponentManifest> {
  await using prepared = await component.prepare(context);
  await prepared.mark(context.signal);
  await prepared.settle(context);
  const sink = createDirectorySink(out, { encrypted });
  const { facts, serverVersion = '' } = await prepared.capture(sink, context);
  const rest = { name: 'redis', kind: 'redis', outcome: 'captured', serverVersion } as const;
  return { ...rest, facts: { ...facts }, artifacts: [...sink.artifacts] };
}

const paths = ({ artifacts }: ComponentManifest): string[] => artifacts.map(({ path }) => path).sort();

test('users in a file of their own are captured, brought back by a line of the kit and never by a restore', async () => {
  const file = join(root, `it's users.acl`);
  await writeFile(file, 'user default on nopass ~* &* +@all\n');
  await using server = await started('users', [`aclfile "${file}"`]);
  await call(server, 'ACL', 'SETUSER', 'app', 'on', '>app-secret-1', '~app:*', '+@all');
  await call(server, 'SET', 'app:k', 'captured');
  const component = componentFor(server);
  const out = join(root, 'users-out');
  const from = await capture(component, out);
  assert.deepEqual(paths(from), ['redis/dump.rdb', 'redis/server/users.acl']);
  await call(server, 'ACL', 'SAVE');
  const sorted = (text: string): string[] => text.trim().split('\n').sort();
  const saved = await readFile(file, 'utf8');
  assert.deepEqual(sorted(await readFile(join(out, 'redis/server/users.acl'), 'utf8')), sorted(saved));
  assert.deepEqual(await component.leftOut?.(ctx), []);

  await call(server, 'ACL', 'DELUSER', 'app');
  await call(server, 'ACL', 'SAVE');
  const planned = await component.planRestore(
    from,
    { restoreConfig: false, restoreId: 'r1' },
    ctx,
    noArtifacts,
  );
  assert.match(planned.plan.steps.join('\n'), /Keep the users of the server\. .*redis\/server\/users\.acl/);
  assert.deepEqual(planned.plan.artifacts, ['redis/dump.rdb']);
  const staged = await planned.stage(createDirectorySource(out), ctx);
  await server.stop();
  await staged.swap(ctx);
  assert.doesNotMatch(await readFile(file, 'utf8'), /user app/);
  const { then = [] } = recovery.step({ component: from, home: {}, compose: undefined }, undefined);
  const line = /run: (cp .*)$/m.exec(then.join('\n'))?.[1] ?? '';
  await execa('sh', ['-eu', '-c', line], { cwd: out });
  await server.start();
  const app = componentFor(server, { username: 'app', password: 'app-secret-1' });
  await app.ready(ctx);
});

test('users that may not be read are listed, and an archive in the clear holds no hash of a password', async () => {
  const file = join(root, 'hidden.acl');
  await writeFile(
    file,
    'user default on nopass ~* &* +@all\nuser tars on >tars-secret-1 +ping +info +psync +replconf +config|get\n',
  );
  await using server = await started('hidden', [`aclfile ${file}`]);
  const limited = componentFor(server, { username: 'tars', password: 'tars-secret-1' });
  assert.deepEqual(paths(await capture(limited, join(root, 'limited-out'))), ['redis/dump.rdb']);
  assert.deepEqual(await limited.leftOut?.(ctx), [
    { subject: `redis: ${file}`, reason: 'its users, which tars may not list: grant +acl|list' },
  ]);
  const warned: string[] = [];
  const context = { ...ctx, log: { ...ctx.log, warn: (message: string) => void warned.push(message) } };
  const from = await capture(componentFor(server), join(root, 'clear-out'), { encrypted: false, context });
  assert.deepEqual(paths(from), ['redis/dump.rdb']);
  assert.match(
    warned.join(),
    /The users of redis \(.*hidden\.acl\) are left out: the archive is not encrypted/,
  );
});

test('what lies beside the data and is none of it is listed', async () => {
  await using server = await started('strays', ['appendonly yes']);
  await call(server, 'SAVE');
  const component = componentFor(server);
  assert.deepEqual(await component.leftOut?.(ctx), []);
  for (const name of ['redis.conf', 'redis.log', 'temp-7.rdb'])
    await writeFile(join(server.dataDir, name), 'x');
  const reason = 'it lies beside the data and is not part of it; list it under files: to capture it';
  assert.deepEqual(await component.leftOut?.(ctx), [
    { subject: `redis: ${join(server.dataDir, 'redis.conf')}`, reason },
  ]);
});

for (const [what, hide] of [
  ['its redis.conf says', false],
  ['its only RDB is called', true],
] as const) {
  test(`a server whose CONFIG is renamed is restored under the name that ${what}`, async () => {
    const name = hide ? 'config-found' : 'config-file';
    const lines = ['dbfilename "odd one.rdb"', 'save 3600 1', 'rename-command CONFIG ""'];
    await using server = await started(name, lines);
    const component = componentFor(server);
    await call(server, 'SET', 'k', 'captured');
    await call(server, 'SAVE');
    if (hide) await rename(server.configFile, `${server.configFile}.away`);
    const { warnings } = await component.probe(ctx);
    assert.equal(
      warnings.some((warning) => /hides its settings/.test(warning)),
      hide,
    );
    const from = await capture(component, join(root, `${name}-out`));
    await call(server, 'SET', 'k', 'changed');
    await call(server, 'SAVE');
    const options = { restoreConfig: false, restoreId: 'r1' };
    const planned = await component.planRestore(from, options, ctx, noArtifacts);
    const staged = await planned.stage(createDirectorySource(join(root, `${name}-out`)), ctx);
    if (hide) await rename(`${server.configFile}.away`, server.configFile);
    await server.stop();
    await staged.swap(ctx);
    await server.start();
    assert.equal(await call(server, 'GET', 'k'), 'captured');
    assert.deepEqual(await component.verify(from, ctx, noArtifacts), []);
  });
}

test('a command that is renamed is named, with what to do', async () => {
  await using server = await started('renamed', ['rename-command PSYNC ""']);
  const component = componentFor(server);
  await using prepared = await component.prepare(ctx);
  await assert.rejects(prepared.mark(ctx.signal), (error: unknown) => {
    assert.ok(error instanceof TarsError);
    assert.match(error.message, /unknown command 'PSYNC'/);
    assert.match(error.hint ?? '', /rename-command/);
    return true;
  });
});
