import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createRedisComponent, type RedisOptions } from '../../src/components/redis/index.ts';
import { freePort } from '../../src/demo/servers/common.ts';
import { startRedis, type PrivateRedis } from '../../src/demo/servers/redis.ts';
import {
  InterruptedError,
  ServiceUnavailableError,
  TarsError,
  type ErrorCode,
} from '../../src/model/errors.ts';
import type { Finding } from '../../src/model/finding.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { Component, PreparedCapture } from '../../src/ports/component.ts';
import { createDirectorySink, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';
import { clientOf, disposable, loadCorpus } from '../fixtures/redis.ts';

const ctx = testContext();
let root: string;
let server: PrivateRedis;
let outs = 0;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-redis-'));
  server = await startRedis(root, ctx, { password: 'correct-horse', lines: ['save ""'] });
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

const componentFor = (options: Partial<RedisOptions> = {}): Component =>
  createRedisComponent({
    name: 'redis',
    service: undefined,
    host: server.host,
    port: server.port,
    username: undefined,
    password: server.password,
    dataDir: undefined,
    scratchDir: join(root, 'scratch'),
    ...options,
  });

async function finish(prepared: PreparedCapture): Promise<ComponentManifest> {
  await prepared.settle(ctx);
  const sink = createDirectorySink(join(root, `out${outs++}`), { encrypted: true });
  const { facts } = await prepared.capture(sink, ctx);
  return {
    name: 'redis',
    kind: 'redis',
    outcome: 'captured',
    facts: { ...facts },
    artifacts: [...sink.artifacts],
  };
}

async function capture(component: Component): Promise<ComponentManifest> {
  await using prepared = await component.prepare(ctx);
  await prepared.mark(ctx.signal);
  return await finish(prepared);
}

async function withCommands<T>(...commands: readonly (readonly string[])[]): Promise<T> {
  await using client = disposable(clientOf(server));
  let last: unknown;
  for (const [name, ...args] of commands) last = await client.redis.call(name ?? '', ...args);
  return last as T;
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 30_000; !(await condition());) {
    assert.ok(Date.now() < deadline, `${what} did not come true`);
    await ctx.clock.sleep(5, ctx.signal);
  }
}

const info = async (name: string): Promise<string | undefined> =>
  new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(await withCommands<string>(['INFO']))?.[1];

const failsWith =
  (code: ErrorCode, message: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof TarsError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.doesNotMatch(
      JSON.stringify([error.message, error.hint, error.context]),
      /correct-horse|wrong-horse/,
    );
    return true;
  };

test('a missing or wrong password and an unknown user are told apart from a server that is down', async () => {
  for (const method of ['probe', 'ready', 'prepare'] as const) {
    const attempt = (options: Partial<RedisOptions>): Promise<unknown> => componentFor(options)[method](ctx);
    await assert.rejects(attempt({ password: undefined }), failsWith('access-denied', /requires a password/));
    await assert.rejects(
      attempt({ password: 'wrong-horse' }),
      failsWith('access-denied', /refuses the password/),
    );
    await assert.rejects(attempt({ username: 'nobody' }), failsWith('access-denied', /refuses the password/));
    const port = await freePort();
    await assert.rejects(attempt({ port }), failsWith('service-unavailable', /does not answer/));
  }
});

test('something that is not Redis is an error, not a wait', async () => {
  const other = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  try {
    const { port } = other.address() as { port: number };
    await assert.rejects(componentFor({ port }).ready(ctx), failsWith('service-unavailable', /protocol/));
  } finally {
    other.close();
  }
});

test('a user with the rights that are documented can capture, one without psync learns what is missing', async () => {
  const rights = ['+ping', '+info', '+psync', '+replconf'];
  await withCommands(['ACL', 'SETUSER', 'tars', 'on', '>correct-horse', ...rights]);
  await capture(componentFor({ username: 'tars' }));
  await withCommands(['ACL', 'SETUSER', 'tars', '-psync']);
  const without = componentFor({ username: 'tars' });
  await using prepared = await without.prepare(ctx);
  await assert.rejects(prepared.mark(ctx.signal), failsWith('access-denied', /psync/));
});

test('probe counts keys and warns when restoring is not possible', async () => {
  await withCommands(['FLUSHALL'], ['SET', 'a', '1'], ['SELECT', '4'], ['SET', 'b', '1']);
  const { summary, warnings, serverVersion } = await componentFor().probe(ctx);
  assert.equal(summary, '2 keys in 2 databases');
  assert.match(serverVersion ?? '', /^(redis|valkey) \d/);
  assert.equal(warnings.length, 1);
});

test('nothing written after mark returned is in the capture, everything acknowledged before is', async () => {
  for (let round = 0; round < 10; round++) {
    await withCommands(['FLUSHALL']);
    const component = componentFor();
    await using prepared = await component.prepare(ctx);
    await withCommands(['SET', 'before', String(round)]);
    await prepared.mark(ctx.signal);
    await withCommands(['SET', 'after', '1'], ['DEL', 'before']);
    const captured = await finish(prepared);
    await withCommands(['DEL', 'after'], ['SET', 'before', String(round)]);
    assert.deepEqual(await component.verify(captured, ctx, noArtifacts), []);
  }
});

test('a save that runs is awaited before the mark', async () => {
  await withCommands(['FLUSHALL']);
  await loadCorpus(server, 3);
  await withCommands(['CONFIG', 'SET', 'rdb-key-save-delay', '400'], ['BGSAVE']);
  assert.equal(await info('rdb_bgsave_in_progress'), '1');
  await using prepared = await componentFor().prepare(ctx);
  assert.equal(await info('rdb_bgsave_in_progress'), '0');
  await withCommands(['CONFIG', 'SET', 'rdb-key-save-delay', '0']);
  await prepared.mark(ctx.signal);
  await finish(prepared);
});

test('a save begun earlier for another replica is not taken for the cut', async () => {
  const [first, second] = await Promise.all([componentFor().prepare(ctx), componentFor().prepare(ctx)]);
  await using one = first;
  await using two = second;
  await withCommands(['CONFIG', 'SET', 'rdb-key-save-delay', '2000']);
  await one.mark(ctx.signal);
  await withCommands(['SET', 'acknowledged', 'between']);
  await assert.rejects(two.mark(ctx.signal), failsWith('capture-failed', /earlier for another replica/));
  await withCommands(['CONFIG', 'SET', 'rdb-key-save-delay', '0']);
  await one[Symbol.asyncDispose]();
  await until('the end of the save', async () => (await info('rdb_bgsave_in_progress')) === '0');
});

test('mark gives up when its signal aborts, and the server is not left with a replica', async () => {
  await withCommands(['CONFIG', 'SET', 'rdb-key-save-delay', '5000']);
  await using prepared = await componentFor().prepare(ctx);
  await withCommands(['BGSAVE']);
  const abort = new AbortController();
  const marked = assert.rejects(prepared.mark(abort.signal), InterruptedError);
  await until('a waiting replica', async () => (await info('connected_slaves')) === '1');
  abort.abort();
  await marked;
  await until('no replica', async () => (await info('connected_slaves')) === '0');
  await withCommands(['CONFIG', 'SET', 'rdb-key-save-delay', '0']);
  await until('the end of the save', async () => (await info('rdb_bgsave_in_progress')) === '0');
});

test('the replica link and the spooled file are gone after the capture', async () => {
  await using prepared = await componentFor().prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  await until('no replica', async () => (await info('connected_slaves')) === '0');
  assert.equal((await readdir(join(root, 'scratch'))).length, 1);
  await prepared[Symbol.asyncDispose]();
  assert.deepEqual(await readdir(join(root, 'scratch')), []);
});

test('diskless replication without a delay is used and gives the same content', async () => {
  const captured = await capture(componentFor());
  await withCommands(
    ['CONFIG', 'SET', 'repl-diskless-sync', 'yes'],
    ['CONFIG', 'SET', 'repl-diskless-sync-delay', '0'],
  );
  const before = await info('rdb_last_save_time');
  await rm(join(server.dataDir, 'dump.rdb'), { force: true });
  const diskless = await capture(componentFor());
  assert.deepEqual(await readdir(server.dataDir), [], `last save ${before ?? ''}`);
  const content = (from: ComponentManifest): object => ({
    ...(from.facts['content'] as object),
    writtenAtMs: 0,
  });
  const lasting = (from: ComponentManifest): unknown => (content(from) as { databases: unknown }).databases;
  assert.deepEqual(lasting(diskless), lasting(captured));
  assert.deepEqual(await componentFor().verify(captured, ctx, noArtifacts), []);
  await withCommands(
    ['CONFIG', 'SET', 'repl-diskless-sync', 'no'],
    ['CONFIG', 'SET', 'repl-diskless-sync-delay', '5'],
  );
});

const changes = [
  ['another string', ['SET', 'text', 'other'], 'key-content-differs'],
  ['a missing key', ['DEL', 'set:large'], 'key-count-differs'],
  ['one more key', ['SET', 'new', '1'], 'key-count-differs'],
  ['another type', ['RENAME', 'float', 'empty'], 'key-count-differs'],
  ['the order of a list', ['LMOVE', 'list:many', 'list:many', 'LEFT', 'RIGHT'], 'key-content-differs'],
  ['one member of a set', ['SREM', 'set:large', 'm77'], 'key-content-differs'],
  ['a score', ['ZINCRBY', 'zset:large', '1e-3', 'm5'], 'key-content-differs'],
  ['a field', ['HSET', 'hash:large', 'f999', 'x'], 'key-content-differs'],
  ['an acknowledged entry', ['XACK', 'stream', 'readers', '1700000000011-1'], 'key-content-differs'],
  ['a deleted entry', ['XDEL', 'stream', '1700000000120-1'], 'key-content-differs'],
  ['a consumer', ['XGROUP', 'CREATECONSUMER', 'stream', 'idle', 'eve'], 'key-content-differs'],
  ['a lost expiry', ['PERSIST', 'expires:7'], 'key-count-differs'],
  ['another expiry', ['PEXPIREAT', 'expires:7', '32503680000000'], 'expiring-content-differs'],
  ['a value with an expiry', ['SET', 'expires:7', 'other', 'KEEPTTL'], 'expiring-content-differs'],
] as const;
/** These are not put back. */
const lastChanges = [
  ['a missing library', ['FUNCTION', 'DELETE', 'lib'], 'library-count-differs'],
  ['a flushed server', ['FLUSHALL'], 'key-count-differs'],
] as const;

/** Notes a key, and returns what puts it back as it was. */
async function noteKey(redis: ReturnType<typeof clientOf>, key: string): Promise<() => Promise<void>> {
  const value = (await redis.dumpBuffer(key)) as Buffer | null;
  const expiresMs = Math.max(await redis.pexpiretime(key), 0);
  return async () => {
    await redis.del(key);
    if (value !== null) await redis.restore(key, expiresMs, value, 'ABSTTL');
  };
}

test('live verification notices every change, and nothing where there is none', async (t) => {
  await withCommands(['FLUSHALL']);
  await loadCorpus(server, 11);
  await using client = disposable(clientOf(server));
  const captured = await capture(componentFor());
  const errors = async (): Promise<readonly Finding[]> =>
    (await componentFor().verify(captured, ctx, noArtifacts)).filter(({ severity }) => severity === 'error');
  assert.deepEqual(await errors(), []);
  const notices = (what: string, change: readonly string[], code: string): Promise<void> =>
    t.test(what, async () => {
      await withCommands(change);
      const found = await errors();
      assert.ok(
        found.some((finding) => finding.code === code),
        JSON.stringify(found),
      );
    });
  for (const [what, change, code] of changes) {
    const putBack = await Promise.all(change.slice(1).map((word) => noteKey(client.redis, word)));
    await notices(what, change, code);
    for (const each of putBack) await each();
  }
  assert.deepEqual(await errors(), []);
  for (const [what, change, code] of lastChanges) await notices(what, change, code);
});

test('keys that expired since the capture are no difference, those that should still be there are', async () => {
  await withCommands(['FLUSHALL']);
  await using client = disposable(clientOf(server));
  for (let i = 0; i < 20; i++) await client.redis.set(`gone:${i}`, 'x', 'PX', 300);
  await client.redis.set('minutes', 'x', 'PX', 200_000);
  const captured = await capture(componentFor());
  await until('expiry', async () => (await client.redis.dbsize()) === 1);
  const findings = await componentFor().verify(captured, ctx, noArtifacts);
  assert.deepEqual(
    findings.map(({ severity, code }) => [severity, code]),
    [['info', 'expired-not-compared']],
  );
  await client.redis.del('minutes');
  const codes = (await componentFor().verify(captured, ctx, noArtifacts)).map(({ code }) => code);
  assert.deepEqual(codes, ['expiring-count-differs', 'expired-not-compared']);
});

test('an empty server is captured and verified', async () => {
  await withCommands(['FLUSHALL'], ['FUNCTION', 'FLUSH']);
  const captured = await capture(componentFor());
  assert.deepEqual(await componentFor().verify(captured, ctx, noArtifacts), []);
  await withCommands(['SET', 'k', 'v']);
  assert.equal((await componentFor().verify(captured, ctx, noArtifacts)).length, 1);
  await withCommands(['DEL', 'k']);
});

test('without a data directory the restore is refused with what to configure', async () => {
  const captured = await capture(componentFor());
  await assert.rejects(
    componentFor().planRestore(captured, { restoreConfig: false, restoreId: 'x' }, ctx, noArtifacts),
    failsWith('restore-refused', /data directory/),
  );
});

test(
  'a scratch directory without space fails the capture and leaves nothing',
  { skip: process.getuid?.() !== 0 },
  async () => {
    const small = join(root, 'small');
    await mkdir(small);
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small]);
    try {
      await loadCorpus(server, 5);
      await using prepared = await componentFor({ scratchDir: small }).prepare(ctx);
      await prepared.mark(ctx.signal);
      await assert.rejects(prepared.settle(ctx), failsWith('no-space', /small/));
      assert.deepEqual(await readdir(small), []);
    } finally {
      await execa('umount', [small]);
    }
  },
);

test('a server with a full disk is captured past its disk', { skip: process.getuid?.() !== 0 }, async () => {
  const directory = join(root, 'full');
  const data = join(directory, 'data');
  await mkdir(data, { recursive: true });
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', data]);
  try {
    await using full = await startRedis(directory, ctx, {
      lines: ['save ""', 'repl-diskless-sync yes', 'repl-diskless-sync-delay 1'],
    });
    await loadCorpus(full, 5);
    const component = componentFor({ port: full.port, password: undefined });
    await using first = await component.prepare(ctx);
    assert.equal(first.pointInTime, 'cut');
    await first.mark(ctx.signal);
    await assert.rejects(first.settle(ctx), failsWith('capture-failed', /could not save to its disk/));
    await using second = await component.prepare(ctx);
    assert.equal(second.pointInTime, 'own');
    await second.mark(ctx.signal);
    const captured = await finish(second);
    assert.deepEqual(await component.verify(captured, ctx, noArtifacts), []);
  } finally {
    await execa('umount', [data]);
  }
});

test('a server that cannot save and refuses writes is not ready', async () => {
  await withCommands(['CONFIG', 'SET', 'save', '3600 1']);
  const inTheWay = join(server.dataDir, 'dump.rdb');
  await rm(inTheWay, { force: true });
  await mkdir(inTheWay);
  try {
    await withCommands(['SET', 'k', 'v'], ['BGSAVE']);
    await until('a failed save', async () => (await info('rdb_last_bgsave_status')) === 'err');
    await assert.rejects(componentFor().ready(ctx), (error) => {
      assert.ok(error instanceof ServiceUnavailableError);
      assert.match(error.message, /MISCONF/);
      return true;
    });
  } finally {
    // A server that cannot save refuses to shut down.
    await rm(inTheWay, { recursive: true });
    await withCommands(['CONFIG', 'SET', 'save', '']);
  }
});
