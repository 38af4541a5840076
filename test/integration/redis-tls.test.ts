import { execa } from 'execa';
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { createRedisComponent, type RedisOptions } from '../../src/components/redis/index.ts';
import type { RedisTls } from '../../src/components/redis/connection/tls.ts';
import { listens } from '../../src/cli/init/look-around.ts';
import type { PortProbe } from '../../src/ports/kind.ts';
import { lookForRedis } from '../../src/components/redis/machine.ts';
import { freePort } from '../../src/demo/servers/common.ts';
import { startRedis, type PrivateRedis } from '../../src/demo/servers/redis.ts';
import { ServiceUnavailableError, TarsError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import { settingsTemplate } from '../../src/settings/template.ts';
import { noCare } from '../../src/settings/template-sections.ts';
import { parseSettings } from '../../src/composition/settings.ts';
import type { Component } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { openRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { replaceKeys } from '../fixtures/cheap-key.ts';
import { tars as runTars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
const password = 'pass word @ 1';
let root: string;
let server: PrivateRedis;
let port: number;
let socket: string;
let tls: RedisTls;

const at = (name: string): string => join(root, name);

/** An authority, a certificate of the server for 127.0.0.1 and one of the client, both signed by it. */
async function makeCertificates(): Promise<void> {
  const request = (name: string, ...more: string[]): Promise<unknown> =>
    execa('openssl', [
      ...[
        'req',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-subj',
        `/CN=${name}`,
      ],
      ...['-keyout', at(`${name}.key`), ...more],
    ]);
  for (const authority of ['ca', 'other'])
    await request(authority, '-x509', '-days', '30', '-out', at(`${authority}.crt`));
  for (const [name, names] of [
    ['server', 'IP:127.0.0.1,DNS:cache.test'],
    ['client', 'DNS:client.test'],
  ] as const) {
    await request(name, '-addext', `subjectAltName=${names}`, '-out', at(`${name}.csr`));
    const signed = ['-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '30'];
    const copied = ['-copy_extensions', 'copyall'];
    await execa('openssl', [
      ...['x509', '-req', '-in', at(`${name}.csr`), '-out', at(`${name}.crt`), ...signed, ...copied],
    ]);
  }
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-redis-tls-'));
  await makeCertificates();
  socket = at('redis.sock');
  tls = { cacert: at('ca.crt'), cert: at('client.crt'), key: at('client.key') };
  server = await startRedis(root, ctx, {
    password: 'correct-horse',
    tls: ['--cacert', at('ca.crt'), '--cert', at('client.crt'), '--key', at('client.key')],
    lines: [
      `tls-cert-file ${at('server.crt')}`,
      `tls-key-file ${at('server.key')}`,
      `tls-ca-cert-file ${at('ca.crt')}`,
      `unixsocket ${socket}`,
      `user keeper on "#${await sha256(password)}" ~* &* +@all`,
    ],
  });
  ({ port } = server);
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

const sha256 = async (text: string): Promise<string> =>
  Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(text))).toString('hex');

/** `redis-cli` over the socket. */
async function redis(...words: string[]): Promise<string> {
  const { stdout } = await execa('redis-cli', ['-s', socket, '--user', 'keeper', ...words], {
    env: { REDISCLI_AUTH: password },
  });
  return stdout;
}

const componentFor = (options: Partial<RedisOptions> = {}): Component =>
  createRedisComponent({
    name: 'redis',
    service: 'redis',
    host: '127.0.0.1',
    port,
    username: 'keeper',
    password,
    dataDir: server.dataDir,
    scratchDir: at('scratch'),
    ...options,
  });

for (const [way, options] of [
  ['TLS', (): Partial<RedisOptions> => ({ tls })],
  ['a Unix socket', (): Partial<RedisOptions> => ({ host: undefined, socket })],
] as const) {
  test(`a server that is reached over ${way} alone is captured, restored and verified`, async () => {
    const component = componentFor(options());
    await redis('FLUSHALL');
    await redis('SET', 'k', 'captured');
    assert.match((await component.probe(ctx)).summary, /1 key/);
    const out = at(`out-${way}`);
    const sink = createDirectorySink(out, { encrypted: true });
    await using prepared = await component.prepare(ctx);
    await prepared.mark(ctx.signal);
    await prepared.settle(ctx);
    const { facts } = await prepared.capture(sink, ctx);
    const from: ComponentManifest = {
      name: 'redis',
      kind: 'redis',
      outcome: 'captured',
      facts: { ...facts },
      artifacts: [...sink.artifacts],
    };
    assert.deepEqual(await component.verify(from, ctx, noArtifacts), []);
    await redis('SET', 'k', 'changed');
    assert.equal((await component.verify(from, ctx, noArtifacts)).length, 1);
    const planned = await component.planRestore(
      from,
      { restoreConfig: false, restoreId: 'r1' },
      ctx,
      noArtifacts,
    );
    const staged = await planned.stage(createDirectorySource(out), ctx);
    assert.deepEqual(await staged.verify(ctx), []);
    await assert.rejects(staged.swap(ctx), /still runs/);
    await server.stop();
    await staged.swap(ctx);
    await server.start();
    assert.equal(await redis('GET', 'k'), 'captured');
    assert.deepEqual(await component.verify(from, ctx, noArtifacts), []);
    await component.generation(staged.record).discardPrevious(ctx);
  });
}

test('whose certificate counts is as with redis-cli, and each refusal says which setting it is about', async () => {
  const ready = (settings: RedisTls | undefined, more: Partial<RedisOptions> = {}): Promise<void> =>
    componentFor({ tls: settings, ...more }).ready(ctx);
  await ready({ ...tls, sni: 'cache.test' });
  await ready({ ...tls, insecure: true, cacert: undefined });
  // As redis-cli does: an authority of one's own vouches for the server, whatever the name.
  await ready(tls, { host: 'localhost' });
  const refusals: [RedisTls | undefined, RegExp, RegExp][] = [
    [undefined, /accepts only TLS/, /tls: true/],
    [{ ...tls, cacert: at('other.crt') }, /certificate is not accepted/, /cacert/],
    [{ ...tls, cacert: undefined }, /certificate is not accepted/, /cacert/],
    [{ ...tls, sni: 'elsewhere.test' }, /certificate is not accepted/, /sni/],
    [{ cacert: tls.cacert }, /certificate of this client/, /cert and key/],
    [{ ...tls, cacert: at('nowhere') }, /Cannot read the certificate file .*nowhere/, /cacert/],
  ];
  for (const [settings, message, hint] of refusals) {
    await assert.rejects(ready(settings), (error: unknown) => {
      assert.ok(error instanceof TarsError);
      assert.match(error.message, message);
      assert.match(error.hint ?? '', hint);
      return true;
    });
  }
  const gone = { host: undefined, socket: at('nowhere.sock') };
  await assert.rejects(ready(undefined, gone), (error: unknown) => {
    assert.ok(error instanceof ServiceUnavailableError);
    assert.match(error.message, /nowhere\.sock does not answer: the socket does not exist/);
    return true;
  });
});

/** Every run opens the repository, which costs seconds with a real key. */
async function makeKeyCheap(): Promise<void> {
  const key = (await readFile(at('key'), 'utf8')).trim();
  await replaceKeys(await openRepository(createLocalStorage(at('repository')), key, ctx), key, ctx);
}

test('tars.yaml names them as redis-cli does, and an address may stand in one line', async () => {
  const settingsOf = (redisSettings: object): string =>
    stringify({
      version: 1,
      stack: 'cache',
      repository: { path: 'repository', password_file: 'key' },
      scratch_dir: 'scratch',
      state_dir: 'state',
      components: { redis: { data_dir: server.dataDir, service: 'redis', ...redisSettings } },
      services: {
        redis: { start: server.startCommand, stop: server.stopCommand, pid_file: server.pidFile },
      },
    });
  await mkdir(at('scratch'), { recursive: true });
  await writeFile(at('key'), 'a password for these tests\n', { mode: 0o600 });
  const url = `rediss://keeper:${encodeURIComponent(password)}@127.0.0.1:${port}/0`;
  const ways = {
    url: { url: '${REDIS_URL}', cacert: 'ca.crt', cert: 'client.crt', key: 'client.key' },
    socket: { socket: 'redis.sock', username: 'keeper', password: '${REDIS_PASSWORD}' },
  };
  const env = { REDIS_URL: url, REDIS_PASSWORD: password };
  const kits: Record<string, string> = {};
  for (const [way, settings] of Object.entries(ways)) {
    await writeFile(at(`${way}.yaml`), settingsOf(settings), { mode: 0o600 });
    const tars = async (...args: string[]): Promise<string> => {
      const run = await runTars(['--config', at(`${way}.yaml`), ...args], { env });
      assert.equal(run.exitCode, 0, `${args.join(' ')}: ${run.stderr}`);
      return run.stdout + run.stderr;
    };
    if (way === 'url') {
      await tars('init');
      await makeKeyCheap();
    }
    await redis('SET', 'k', `captured by ${way}`);
    await tars('backup');
    if (way === 'url') assert.match(await tars('doctor'), /redis[^\n]*1 key/i);
    await redis('SET', 'k', 'changed');
    await tars('restore', 'latest', '--yes');
    assert.equal(await redis('GET', 'k'), `captured by ${way}`);
    if (way === 'url') await tars('verify');
    await tars('key', 'export', '--output', at(`${way}.txt`));
    kits[way] = await readFile(at(`${way}.txt`), 'utf8');
    assert.doesNotMatch(kits[way], /pass(%20| )word/);
  }
  const told = (page = ''): string => page.replaceAll(/\s+\\?\s*/g, ' ');
  const files = `--cacert ${at('ca.crt')} --cert ${at('client.crt')} --key ${at('client.key')}`;
  assert.ok(
    told(kits['url']).includes(
      `redis-cli -h 127.0.0.1 -p ${port} --tls ${files} --user keeper info keyspace`,
    ),
    kits['url'],
  );
  assert.ok(
    told(kits['socket']).includes(`redis-cli -s ${socket} --user keeper info keyspace`),
    kits['socket'],
  );
});

test('an address in one line excludes what it stands for, and a password in it makes the file a secret', () => {
  const parse = (lines: string, env: Record<string, string> = {}): ReturnType<typeof parseSettings> =>
    parseSettings(
      `version: 1\nstack: s\nrepository: { path: r }\ncomponents:\n  redis: { ${lines} }\n`,
      '/etc/tars.yaml',
      env,
    );
  assert.deepEqual(parse("url: 'redis://:s%40crt@[::1]:7000'").components['redis']?.settings, {
    ...{ kind: 'redis', host: '::1', port: 7000, password: 's@crt' },
  });
  assert.deepEqual(parse('url: rediss://cache.test').components['redis']?.settings, {
    ...{ kind: 'redis', host: 'cache.test', tls: true },
  });
  assert.equal(parse('url: rediss://u:pw@cache.test').holdsSecrets, true);
  assert.equal(parse("url: 'rediss://u:${PW}@cache.test'", { PW: 'pw' }).holdsSecrets, false);
  for (const [lines, message] of [
    ['url: redis://a, host: b', /both url and host/],
    ['url: redis://a, socket: /b', /both url and socket/],
    ['socket: /b, port: 1', /both socket and port/],
    ['socket: /b, cacert: /c', /both socket and cacert/],
    ['url: redis://:secret-1@a, password_file: /p', /both password and password_file/],
    ['url: http://a', /url .*redis:\/\/ or rediss:\/\//],
    ['cert: /c', /cert without key/],
  ] as const) {
    assert.throws(
      () => parse(lines),
      (error: unknown) => {
        assert.ok(error instanceof TarsError);
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /secret-1/);
        return true;
      },
      lines,
    );
  }
});

test('init finds a server that listens over TLS or on a socket alone by its redis.conf', async () => {
  const configuration = await readFile(server.configFile, 'utf8');
  const conf = async (name: string, text: string): Promise<string> => {
    await writeFile(at(name), text);
    return at(name);
  };
  // This machine may have a Redis of its own at the usual port.
  const butUsual: PortProbe = async (place) =>
    !('port' in place && place.port === 6379) && (await listens(place));
  const proposed = async (...files: string[]): Promise<unknown> => {
    const proposal = await lookForRedis(butUsual, files);
    if (!proposal.isFound) return undefined;
    const text = settingsTemplate({
      ...{ stack: 's', repositoryPath: '/r', passwordFile: '/k', care: noCare },
      proposals: [{ kind: 'redis', ...proposal }],
    });
    return parseSettings(text, '/etc/tars.yaml', {}).components['redis']?.settings;
  };
  // The plain port of the file first, then the socket, then TLS; of these only what answers.
  const bySocket = await conf('socket.conf', configuration);
  assert.deepEqual(await proposed(at('nowhere.conf'), bySocket), {
    ...{ kind: 'redis', socket, data_dir: server.dataDir },
  });
  const byTls = await conf(
    'tls.conf',
    configuration.replace(/^port 0$/m, 'PORT "0"').replace(/^unixsocket .*$/m, ''),
  );
  assert.deepEqual(await proposed(byTls), {
    ...{ kind: 'redis', host: '127.0.0.1', port, tls: true, cacert: at('ca.crt'), data_dir: server.dataDir },
  });
  const nothing = await conf('nothing.conf', `port 0\ntls-port ${await freePort()}\n`);
  assert.equal(await proposed(nothing), undefined);
});
