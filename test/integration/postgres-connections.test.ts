import { execa } from 'execa';
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chown, readFile, stat, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { TlsSettings } from '../../src/components/postgres/connection/tls.ts';
import { freePort, runAs, waitUntil } from '../../src/demo/servers/common.ts';
import { TarsError } from '../../src/model/errors.ts';
import { testContext } from '../fixtures/context.ts';
import { startBench, takeSnapshot, type PostgresBench } from '../fixtures/postgres.ts';

const ctx = testContext();
let bench: PostgresBench;
let certificate: string;
before(async () => {
  bench = await startBench();
  await bench.sql('postgres', 'CREATE DATABASE app');
  await bench.sql('app', 'CREATE TABLE t AS SELECT 1 AS x');
});
after(() => bench[Symbol.asyncDispose]());

const pgbouncer = '/usr/sbin/pgbouncer';

test('a connection pooler is named as what it is', { skip: !existsSync(pgbouncer) }, async () => {
  const port = await freePort();
  const { prefix, uid, gid } = await runAs('postgres');
  const settings = `[databases]
* = host=127.0.0.1 port=${bench.server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
auth_type = plain
auth_file = ${join(bench.root, 'users')}
pool_mode = transaction
unix_socket_dir =
`;
  const files = { users: `"tars" "${bench.server.password}"\n`, 'bouncer.ini': settings };
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(bench.root, name), content);
    await chown(join(bench.root, name), uid, gid);
  }
  const argv = [...prefix, pgbouncer, join(bench.root, 'bouncer.ini')];
  const child = execa(argv[0] ?? '', argv.slice(1), {
    reject: false,
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'ignore',
  });
  try {
    const answers = async (): Promise<void> => {
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect');
      socket.destroy();
    };
    await waitUntil('PgBouncer', answers, ctx, 20_000);
    await assert.rejects(bench.component({ port }).prepare(ctx), (error: unknown) => {
      assert.ok(error instanceof TarsError);
      assert.match(error.message, /is a connection pooler \(PgBouncer\)/);
      assert.match(error.hint ?? '', /PostgreSQL server itself/);
      return true;
    });
  } finally {
    child.kill();
    await child;
  }
});

async function requireTls(): Promise<void> {
  const { dataDir } = bench.server;
  certificate = join(bench.root, 'server.crt');
  const key = join(dataDir, 'server.key');
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'];
  await execa('openssl', [
    'req',
    '-new',
    '-x509',
    '-days',
    '30',
    '-nodes',
    ...subject,
    '-keyout',
    key,
    '-out',
    certificate,
  ]);
  const { uid, gid } = await stat(dataDir);
  await chown(key, uid, gid);
  await bench.sql(
    'postgres',
    `ALTER SYSTEM SET ssl_cert_file = '${certificate}'`,
    'ALTER SYSTEM SET ssl = on',
  );
  await writeFile(join(dataDir, 'pg_hba.conf'), 'hostssl all all 127.0.0.1/32 scram-sha-256\n');
  await bench.server.stop();
  await bench.server.start();
}

test('a server that takes encrypted connections only is captured and restored, with the usual settings', async () => {
  await requireTls();
  const component = bench.component({ databases: ['app'] });
  const taken = await takeSnapshot(component, join(bench.root, 'tls'));
  const planned = await component.planRestore(
    taken.manifest,
    { restoreConfig: false, restoreId: 'tls1' },
    ctx,
    taken.source,
  );
  const staged = await planned.stage(taken.source, ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.discard(ctx);
  const goes: TlsSettings[] = [
    { sslmode: 'require' },
    { sslmode: 'allow' },
    { sslmode: 'verify-ca', sslrootcert: certificate },
    { sslmode: 'verify-full', sslrootcert: certificate },
    { sslmode: 'require', sslrootcert: certificate },
  ];
  for (const tls of goes) {
    const name = `tls-${tls.sslmode}-${tls.sslrootcert === undefined}`;
    await takeSnapshot(bench.component({ databases: ['app'], tls }), join(bench.root, name));
  }
  const other = join(bench.root, 'other.crt');
  await execa('openssl', [
    'req',
    '-new',
    '-x509',
    '-nodes',
    '-subj',
    '/CN=other',
    '-keyout',
    '/dev/null',
    '-out',
    other,
  ]);
  const fails: [TlsSettings, RegExp][] = [
    [{ sslmode: 'disable' }, /no encryption/],
    [{ sslmode: 'verify-full', sslrootcert: other }, /certificate that is not trusted/],
    [{ sslmode: 'require', sslrootcert: other }, /certificate that is not trusted/],
    [{ sslmode: 'verify-ca' }, /needs the certificate/],
    [{ sslmode: 'verify-ca', sslrootcert: join(bench.root, 'nowhere') }, /Cannot read the certificate file/],
  ];
  for (const [tls, message] of fails) {
    await assert.rejects(
      bench.component({ databases: ['app'], tls }).prepare(ctx),
      message,
      JSON.stringify(tls),
    );
  }
});

test("libpq's variables count where the settings say nothing", async () => {
  process.env['PGSSLMODE'] = 'disable';
  try {
    await assert.rejects(bench.component({ databases: ['app'] }).ready(ctx), /no encryption/);
    await bench.component({ databases: ['app'], tls: { sslmode: 'require' } }).ready(ctx);
  } finally {
    delete process.env['PGSSLMODE'];
  }
  assert.doesNotMatch(await readFile(join(bench.server.dataDir, 'server.log'), 'utf8'), /PANIC/);
});
