import assert from 'node:assert/strict';
import { chmod, chown, mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { freePort } from '../../src/demo/servers/common.ts';
import {
  CorruptionError,
  InterruptedError,
  RestoreRefusedError,
  ServiceUnavailableError,
  TarsError,
  type ErrorCode,
} from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { ArtifactSink, Bytes } from '../../src/ports/artifacts.ts';
import { createDirectorySink, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';
import {
  manifestOf,
  startBench,
  takeSnapshot,
  type PostgresBench,
  type TakenSnapshot,
} from '../fixtures/postgres.ts';

const ctx = testContext();
let bench: PostgresBench;

before(async () => {
  bench = await startBench();
  await bench.sql('postgres', 'CREATE ROLE weak LOGIN PASSWORD $$weak-password$$', 'CREATE DATABASE app');
  await bench.sql(
    'app',
    'CREATE TABLE rows AS SELECT i, md5(i::text) AS value FROM generate_series(1, 300000) i',
    `CREATE TABLE needle AS SELECT 'a flipped bit changes this' AS value`,
  );
});
after(() => bench[Symbol.asyncDispose]());

const withCode =
  (code: ErrorCode, message: RegExp, hint?: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof TarsError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.match(error.hint ?? '', hint ?? /./);
    assert.doesNotMatch(`${error.message} ${error.hint ?? ''}`, /correct-horse|wrong-password/);
    return true;
  };

test('a server that is down is named with host and port, by every way in', async () => {
  const port = await freePort();
  const component = bench.component({ port });
  const check = (error: unknown): boolean =>
    error instanceof ServiceUnavailableError &&
    withCode('service-unavailable', new RegExp(`127\\.0\\.0\\.1:${port}`), /Start the server/)(error);
  await assert.rejects(component.ready(ctx), check);
  await assert.rejects(component.probe(ctx), check);
  await assert.rejects(component.prepare(ctx), check);
});

test('a wrong, a missing and an unnecessary password', async () => {
  const wrong = bench.component({ password: 'wrong-password' });
  await assert.rejects(wrong.prepare(ctx), withCode('access-denied', /refused user tars/, /password/));
  const missing = bench.component({ password: undefined });
  await assert.rejects(missing.ready(ctx), withCode('access-denied', /none is configured/));
});

test('a database that is not there', async () => {
  const component = bench.component({ databases: ['app', 'nowhere'] });
  await assert.rejects(component.prepare(ctx), withCode('configuration', /"nowhere"/));
});

test('a client older than the server is refused with both versions and what to install', async () => {
  const clientBinDir = join(bench.root, 'old-client');
  await mkdir(clientBinDir);
  await writeFile(join(clientBinDir, 'pg_dump'), '#!/bin/sh\necho "pg_dump (PostgreSQL) 14.11 (Debian)"\n');
  await chmod(join(clientBinDir, 'pg_dump'), 0o755);
  const message = /needs client programs of version \d+ or newer, and the newest pg_dump here is version 14/;
  const check = withCode('unsupported-version', message, new RegExp(`postgresql-client-${bench.major}`));
  await assert.rejects(bench.component({ clientBinDir }).prepare(ctx), check);
  const none = bench.component({ clientBinDir: join(bench.root, 'nowhere') });
  await assert.rejects(none.prepare(ctx), withCode('unsupported-version', /no pg_dump was found/));
});

test("the client beside a local server's own program is found", async () => {
  const serverPid = Number((await readFile(bench.server.pidFile, 'utf8')).split('\n')[0]);
  const path = process.env['PATH'];
  process.env['PATH'] = '';
  try {
    await using prepared = await bench.component({ serverPid, databases: ['app'] }).prepare(ctx);
    assert.equal(prepared.pointInTime, 'cut');
  } finally {
    process.env['PATH'] = path;
  }
});

test('a table the user may not read fails the capture before the mark, with what to grant', async () => {
  const component = bench.component({ user: 'weak', password: 'weak-password', databases: ['app'] });
  const check = withCode(
    'access-denied',
    /weak may not read public\.needle, public\.rows/,
    /pg_read_all_data/,
  );
  await assert.rejects(component.prepare(ctx), check);
});

test('databases that are left out without anybody having said so are named', async () => {
  await bench.sql(
    'postgres',
    'CREATE DATABASE closed ALLOW_CONNECTIONS false',
    'CREATE DATABASE model IS_TEMPLATE true',
  );
  try {
    const warnings: string[] = [];
    const warn = (message: string): void => {
      warnings.push(message);
    };
    await using prepared = await bench.component().prepare({ ...ctx, log: { ...ctx.log, warn } });
    assert.equal(prepared.pointInTime, 'cut');
    assert.equal(warnings.length, 2);
    assert.match(warnings[0] ?? '', /"closed" is not captured: it accepts no connections/);
    assert.match(warnings[1] ?? '', /"model" is not captured: it is a template/);
  } finally {
    await bench.sql(
      'postgres',
      'DROP DATABASE closed',
      'ALTER DATABASE model IS_TEMPLATE false',
      'DROP DATABASE model',
    );
  }
});

async function captureAs(
  user: string,
): Promise<{ manifest: ComponentManifest; globals: string; warnings: string }> {
  const warnings: string[] = [];
  const warn = (message: string): void => {
    warnings.push(message);
  };
  const component = bench.component({ user, password: `${user}-password`, databases: ['app'] });
  const own = { ...ctx, log: { ...ctx.log, warn } };
  await using prepared = await component.prepare(own);
  await prepared.mark(own.signal);
  await prepared.settle(own);
  const directory = join(bench.root, `as-${user}`);
  const sink = createDirectorySink(directory, { encrypted: true });
  const report = await prepared.capture(sink, own);
  return {
    manifest: manifestOf(component, report, sink.artifacts),
    globals: await readFile(join(directory, 'postgres/globals.sql'), 'utf8'),
    warnings: warnings.join('\n'),
  };
}

test('a user with rights on all tables but not on password hashes captures without them, and says so', async () => {
  await bench.sql('postgres', `CREATE ROLE reader LOGIN PASSWORD 'reader-password'`);
  await bench.sql('app', 'GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader');
  const { manifest, globals, warnings } = await captureAs('reader');
  await bench.sql('app', 'DROP OWNED BY reader', 'DROP ROLE reader');
  assert.equal(manifest.facts['passwords'], 'not-readable');
  assert.match(warnings, /reader may not read password hashes/);
  assert.match(globals, /CREATE ROLE weak/);
  assert.doesNotMatch(globals, /SCRAM/);
});

test('a user with pg_read_all_data captures everything, hashes included, and may not restore', async () => {
  await bench.sql('postgres', 'GRANT pg_read_all_data TO weak');
  const { manifest, globals, warnings } = await captureAs('weak');
  assert.equal(manifest.facts['passwords'], 'included');
  assert.equal(warnings, '');
  assert.match(globals, /ALTER ROLE weak .*PASSWORD 'SCRAM-SHA-256/);
  const weak = bench.component({ user: 'weak', password: 'weak-password', databases: ['app'] });
  const restoring = weak.planRestore(
    manifest,
    { restoreConfig: false, restoreId: 'weak1' },
    ctx,
    noArtifacts,
  );
  await assert.rejects(restoring, withCode('restore-refused', /weak may not create databases/));
});

const afterTheMark: [string, string][] = [
  ['truncated', 'TRUNCATE short_lived'],
  ['rewritten', 'ALTER TABLE short_lived ALTER x TYPE text'],
  ['renamed', 'ALTER TABLE short_lived RENAME TO longer; CREATE TABLE short_lived (x int)'],
  ['widened', 'ALTER TABLE short_lived ADD y int'],
  ['dropped', 'DROP TABLE short_lived'],
];
for (const [what, statement] of afterTheMark) {
  test(`a table ${what} between mark and settle would be captured wrong: the capture fails instead`, async () => {
    await bench.sql('app', 'CREATE TABLE short_lived AS SELECT 1 AS x');
    try {
      await using prepared = await bench.component({ databases: ['app'] }).prepare(ctx);
      await prepared.mark(ctx.signal);
      await bench.sql('app', statement);
      await assert.rejects(prepared.settle(ctx), withCode('capture-failed', /short_lived/, /again/));
    } finally {
      await bench.sql('app', 'DROP TABLE IF EXISTS short_lived, longer');
    }
  });
}

/** A sink that runs `onFirstChunk` once the dump has begun to arrive. */
function observedSink(directory: string, onFirstChunk: () => Promise<void>): ArtifactSink {
  const sink = createDirectorySink(join(bench.root, directory), { encrypted: true });
  const observed = async function* (body: Bytes): Bytes {
    let first = true;
    for await (const chunk of body) {
      if (first) await onFirstChunk();
      first = false;
      yield chunk;
    }
  };
  return {
    ...sink,
    write: (path, body, options) => sink.write(path, path.endsWith('.dump') ? observed(body) : body, options),
  };
}

async function eventually(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = ctx.clock.monotonicMs() + 20_000;
  while (!(await condition())) {
    assert.ok(ctx.clock.monotonicMs() < deadlineMs, what);
    await ctx.clock.sleep(20, ctx.signal);
  }
}

async function noSessionLeft(): Promise<boolean> {
  const query = `SELECT 1 FROM pg_stat_activity WHERE application_name IN ('tars', 'pg_dump', 'pg_restore')`;
  return (await bench.sql('template1', query)).length === 0;
}

test('a dump whose server session dies is a failed capture, not a shorter artifact', async () => {
  await using prepared = await bench.component({ databases: ['app'] }).prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  const killDump = async (): Promise<void> => {
    await bench.sql(
      'postgres',
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tars' AND query LIKE 'COPY %'`,
    );
  };
  const sink = observedSink('killed', killDump);
  await assert.rejects(prepared.capture(sink, ctx), withCode('capture-failed', /Cannot dump database "app"/));
});

test('an interrupted capture ends at once, and leaves no program and no session behind', async () => {
  const controller = new AbortController();
  const own = testContext(controller.signal);
  await using prepared = await bench.component({ databases: ['app'] }).prepare(own);
  await prepared.mark(own.signal);
  await prepared.settle(own);
  const abort = (): Promise<void> => {
    controller.abort();
    return Promise.resolve();
  };
  const sink = observedSink('interrupted', abort);
  await assert.rejects(prepared.capture(sink, own), InterruptedError);
  await prepared[Symbol.asyncDispose]();
  await eventually('sessions are left', noSessionLeft);
});

test('the password is in no command line while programs run', async () => {
  const commandLines: string[] = [];
  await using prepared = await bench.component({ databases: ['app'] }).prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  const look = async (): Promise<void> => {
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      commandLines.push(await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => ''));
    }
  };
  await prepared.capture(observedSink('argv', look), ctx);
  const own = commandLines.filter((line) => line.includes(String(bench.server.port)));
  assert.ok(own.some((line) => line.includes('pg_dump')));
  for (const line of own) assert.ok(!line.includes(bench.server.password), line);
});

async function restoreFails(
  taken: TakenSnapshot,
  manifest: ComponentManifest,
  check: (e: unknown) => boolean,
) {
  const component = bench.component({ databases: ['app'] });
  const names = await bench.databaseNames();
  await bench.sql('postgres', 'ALTER ROLE weak RENAME TO not_weak');
  const roles = await bench.sql('postgres', 'SELECT rolname FROM pg_roles ORDER BY 1');
  try {
    const planned = await component.planRestore(
      manifest,
      { restoreConfig: false, restoreId: 'bad1' },
      ctx,
      noArtifacts,
    );
    assert.match(planned.plan.steps[0] ?? '', /missing roles weak/);
    await assert.rejects(planned.stage(taken.source, ctx), check);
    assert.deepEqual(await bench.databaseNames(), names);
    assert.deepEqual(await bench.sql('postgres', 'SELECT rolname FROM pg_roles ORDER BY 1'), roles);
  } finally {
    await bench.sql('postgres', 'ALTER ROLE not_weak RENAME TO weak');
  }
}

test('a flipped bit or a truncated dump fails the staging, and nothing is left on the server', async () => {
  const component = bench.component({ databases: ['app'] });
  const taken = await takeSnapshot(component, join(bench.root, 'damaged'));
  const path = join(taken.directory, 'postgres/app.dump');
  const dump = await readFile(path);
  const at = dump.indexOf('a flipped bit');
  assert.ok(at > 0);
  dump[at] = (dump[at] ?? 0) ^ 1;
  await writeFile(path, dump);
  await restoreFails(taken, taken.manifest, (error) => error instanceof CorruptionError);
  // pg_restore itself must notice a short archive, were the manifest to agree with it.
  await truncate(path, dump.length - 100);
  const sha256 = createHash('sha256').update(dump.subarray(0, -100)).digest('hex');
  const artifacts = taken.manifest.artifacts.map((a) => (a.path.endsWith('.dump') ? { ...a, sha256 } : a));
  const check = withCode('restore-failed', /Cannot restore database "app"/, /Nothing live was changed/);
  await restoreFails(taken, { ...taken.manifest, artifacts }, check);
  await restoreFails(taken, taken.manifest, (error) => error instanceof TarsError);
});

test('a locale that the server does not have is named with its own database', async () => {
  const component = bench.component({ databases: ['app'] });
  const taken = await takeSnapshot(component, join(bench.root, 'locale'));
  const facts = structuredClone(taken.manifest.facts) as { databases: { properties: object }[] };
  for (const database of facts.databases) {
    database.properties = { ...database.properties, collate: 'xx_NONE.utf8', ctype: 'xx_NONE.utf8' };
  }
  await restoreFails(
    taken,
    { ...taken.manifest, facts },
    withCode(
      'restore-refused',
      /like "app": invalid (LC_COLLATE )?locale name: "xx_NONE\.utf8"/,
      /xx_NONE\.utf8: install it/,
    ),
  );
});

test('an interrupted restore leaves nothing on the server', async () => {
  const component = bench.component({ databases: ['app'] });
  const taken = await takeSnapshot(component, join(bench.root, 'cancelled'));
  const names = await bench.databaseNames();
  const controller = new AbortController();
  const own = testContext(controller.signal);
  const planned = await component.planRestore(
    taken.manifest,
    { restoreConfig: false, restoreId: 'stop1' },
    own,
    taken.source,
  );
  const source = {
    ...taken.source,
    open: async function* (path: string, signal: AbortSignal): Bytes {
      for await (const chunk of taken.source.open(path, signal)) {
        yield chunk;
        controller.abort();
      }
    },
  };
  await assert.rejects(planned.stage(source, own), InterruptedError);
  assert.deepEqual(await bench.databaseNames(), names);
  await eventually('sessions are left', noSessionLeft);
});

test('an older server, a missing extension and unreadable facts refuse the restore before it begins', async () => {
  const component = bench.component({ databases: ['app'] });
  const { manifest } = await takeSnapshot(component, join(bench.root, 'refused'));
  const plan = (facts: Record<string, unknown>): Promise<unknown> =>
    component.planRestore(
      { ...manifest, facts },
      { restoreConfig: false, restoreId: 'no1' },
      ctx,
      noArtifacts,
    );
  const facts = manifest.facts as { databases: { content: { extensions: unknown[] } }[] };
  const newer = plan({ ...manifest.facts, serverMajor: 99 });
  await assert.rejects(newer, RestoreRefusedError);
  await assert.rejects(newer, /is version \d+, and the snapshot was taken from version 99/);
  const extended = structuredClone(facts);
  extended.databases[0]?.content.extensions.push({ name: 'vector_of_tomorrow', version: '9' });
  await assert.rejects(plan(extended), withCode('restore-refused', /vector_of_tomorrow/, /Install/));
  await assert.rejects(plan({ databases: 7 }), CorruptionError);
});

test('without its tablespaces a database is restored into the default one, and the plan says so', async () => {
  const space = join(bench.root, 'space');
  await mkdir(space);
  const { uid, gid } = await stat(bench.server.dataDir);
  await chown(space, uid, gid);
  await bench.sql('postgres', `CREATE TABLESPACE space LOCATION '${space}'`, 'CREATE DATABASE placed');
  await bench.sql('placed', 'CREATE TABLE t TABLESPACE space AS SELECT 1 AS x');
  const component = bench.component({ databases: ['placed'] });
  const taken = await takeSnapshot(component, join(bench.root, 'placed'));
  const restore = async (restoreId: string): Promise<readonly string[]> => {
    const planned = await component.planRestore(
      taken.manifest,
      { restoreConfig: false, restoreId },
      ctx,
      taken.source,
    );
    const staged = await planned.stage(taken.source, ctx);
    assert.deepEqual(await staged.verify(ctx), []);
    await staged.swap(ctx);
    await component.generation(staged.record).discardPrevious(ctx);
    return planned.plan.warnings;
  };
  const query = `SELECT spcname FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE relname = 't'`;
  assert.deepEqual(await restore('space1'), []);
  assert.deepEqual(await bench.sql('placed', query), [{ spcname: 'space' }]);
  await bench.sql('postgres', 'DROP DATABASE placed', 'DROP TABLESPACE space');
  assert.match(
    (await restore('space2')).join(),
    /no tablespace "space": "placed" is restored into the default/,
  );
  assert.deepEqual(await bench.sql('placed', query), []);
  await bench.sql('postgres', 'DROP DATABASE placed');
});

test('a user that owns a database and may create some restores it without being a superuser', async () => {
  const password = `m%k:er'@/ ü"`;
  await bench.sql(
    'postgres',
    `CREATE ROLE maker LOGIN CREATEDB PASSWORD '${password.replaceAll("'", "''")}'`,
    'CREATE DATABASE own OWNER maker',
  );
  await bench.sql(
    'own',
    'SET ROLE maker',
    'CREATE SCHEMA mine',
    `CREATE TABLE mine.t AS SELECT 'captured' AS x`,
  );
  const component = bench.component({ databases: ['own'], user: 'maker', password });
  const taken = await takeSnapshot(component, join(bench.root, 'own'));
  await bench.sql('own', `UPDATE mine.t SET x = 'live'`);
  const planned = await component.planRestore(
    taken.manifest,
    { restoreConfig: false, restoreId: 'own1' },
    ctx,
    taken.source,
  );
  const staged = await planned.stage(taken.source, ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.swap(ctx);
  assert.deepEqual(await bench.sql('own', 'SELECT x FROM mine.t'), [{ x: 'captured' }]);
  await component.generation(staged.record).undo(ctx);
  assert.deepEqual(await bench.sql('own', 'SELECT x FROM mine.t'), [{ x: 'live' }]);
  await bench.sql('postgres', 'DROP DATABASE own', 'DROP ROLE maker');
});
