import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import type { Finding } from '../../src/model/finding.ts';
import { cheapenKey } from '../fixtures/cheap-key.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { allRows, startBench, takeSnapshot, type PostgresBench } from '../fixtures/postgres.ts';

const ctx = testContext();
let bench: PostgresBench;
let run: (...args: string[]) => Promise<CliRun>;

/** What a dump of it does not restore, although the database works: each is one thing that pg_restore loses. */
const broken = [
  'CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1)',
  'CREATE TABLE child (id int, p int REFERENCES parent)',
  'SET session_replication_role = replica; INSERT INTO child VALUES (1, 99); RESET session_replication_role',
  `CREATE TABLE never (secret text); INSERT INTO never VALUES ('row-secret')`,
  'CREATE FUNCTION fine(text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT true $$',
  'ALTER TABLE never ADD CHECK (fine(secret))',
  'CREATE OR REPLACE FUNCTION fine(text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT false $$',
];

/** What pg_restore loses, and comes back once everything else is there. The server refuses some of it since version 17. */
const late = (major: number): string[] => [
  'CREATE TABLE zz_allowed (v text PRIMARY KEY)',
  `INSERT INTO zz_allowed VALUES ('a'), ('b')`,
  `CREATE FUNCTION allowed(text) RETURNS bool LANGUAGE sql STABLE AS $$ SELECT EXISTS (SELECT FROM public.zz_allowed WHERE v = $1) $$`,
  `CREATE TABLE aa_data (v text PRIMARY KEY CHECK (allowed(v))); INSERT INTO aa_data VALUES ('a'), ('b')`,
  `CREATE TABLE bb_child (v text REFERENCES aa_data); INSERT INTO bb_child VALUES ('a')`,
  'CREATE FUNCTION bare(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower($1) $$',
  'CREATE FUNCTION slug(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN bare($1); END $$',
  `CREATE TABLE named (name text, low text GENERATED ALWAYS AS (slug(name)) STORED, CHECK (slug(name) <> ''))`,
  `INSERT INTO named (name) VALUES ('A'), ('B')`,
  'CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT count(*) FROM named); END $$',
  ...(major < 17
    ? [
        'CREATE INDEX named_slug ON named (slug(name))',
        'CREATE MATERIALIZED VIEW totals AS SELECT total() AS n',
      ]
    : []),
  `CREATE DOMAIN slugged AS text CHECK (slug(VALUE) <> ''); CREATE TABLE domained (s slugged); INSERT INTO domained VALUES ('x')`,
  'CREATE TABLE touched (n int); INSERT INTO touched VALUES (1)',
  'CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v || NEW.v; RETURN NEW; END $$',
  'CREATE TRIGGER doubling BEFORE INSERT ON aa_data FOR EACH ROW EXECUTE FUNCTION twice()',
  `CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$`,
  'CREATE EVENT TRIGGER refused ON ddl_command_start EXECUTE FUNCTION refuse()',
];

/** What a database takes under its own name alone; the first kind names it, as the script of pg_cron does. */
const bound = [
  `CREATE FUNCTION at_home() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
     IF current_database() <> 'bound' THEN RAISE EXCEPTION 'can only take rows in database bound'; END IF; RETURN true; END $$`,
  'CREATE TABLE jobs (job text CHECK (at_home()))',
  `INSERT INTO jobs VALUES ('nightly'), ('hourly')`,
];
const tied = [
  `CREATE TABLE here (place text DEFAULT current_database() CHECK (place = current_database()))`,
  'INSERT INTO here DEFAULT VALUES',
];

before(async () => {
  bench = await startBench();
  await bench.sql('postgres', 'CREATE DATABASE broken', 'CREATE DATABASE late', 'CREATE DATABASE whole');
  await bench.sql('postgres', 'CREATE DATABASE bound', 'CREATE DATABASE tied');
  await bench.sql('bound', ...bound);
  await bench.sql('tied', ...tied);
  await bench.sql('postgres', `ALTER DATABASE bound SET work_mem = '7MB'`);
  await bench.sql('broken', ...broken);
  await bench.sql('late', ...late(bench.major));
  await bench.sql('whole', `CREATE TABLE t AS SELECT 'captured' AS x`);
  const { port, user, password, binDir } = bench.server;
  const settings = {
    ...{ version: 1, stack: 'rejections', repository: { path: 'repository', password_file: 'key' } },
    ...{
      scratch_dir: 'scratch',
      state_dir: 'state',
      components: { postgres: { client_bin_dir: binDir, port, user, password } },
    },
  };
  await mkdir(join(bench.root, 'scratch'));
  const secret = 'a password for these tests';
  await writeFile(join(bench.root, 'key'), `${secret}\n`, { mode: 0o600 });
  await writeFile(join(bench.root, 'tars.yaml'), stringify(settings), { mode: 0o600 });
  run = (...args) => tars(['--config', join(bench.root, 'tars.yaml'), ...args]);
  const { exitCode, stderr } = await run('init');
  assert.equal(exitCode, 0, stderr);
  await cheapenKey(join(bench.root, 'repository'), secret);
});
after(() => bench[Symbol.asyncDispose]());

const rows = async (database: string): Promise<unknown> => {
  const client = await bench.connect(database);
  try {
    return await allRows(client);
  } finally {
    await client.end();
  }
};

test('what a dump restores only with everything else in place is tried again, and comes back', async () => {
  const component = bench.component({ databases: ['late'] });
  const taken = await takeSnapshot(component, join(bench.root, 'late'));
  const before = await rows('late');
  const options = { restoreConfig: false, restoreId: 'late1' };
  const planned = await component.planRestore(taken.manifest, options, ctx, taken.source);
  const staged = await planned.stage(taken.source, ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.swap(ctx);
  assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);
  assert.deepEqual(await rows('late'), before);
  await component.generation(staged.record).undo(ctx);
});

test('what a database takes only under its own name comes back once it has that name', async () => {
  const component = bench.component({ databases: ['bound', 'tied'] });
  const taken = await takeSnapshot(component, join(bench.root, 'bound'));
  const before = [await rows('bound'), await rows('tied')];
  const options = { restoreConfig: false, restoreId: 'bound1' };
  const planned = await component.planRestore(taken.manifest, options, ctx, taken.source);
  const staged = await planned.stage(taken.source, ctx);
  const findings = await staged.verify(ctx);
  // Only the server's own words tell beforehand that something waits for the name.
  assert.deepEqual(
    findings.map(({ code, acceptable, message }) => [code, acceptable, message.slice(0, 15)]),
    ['object-rejected', 'row-count-differs'].map((code) => [code, true, 'Database "tied"']),
  );
  await staged.swap(ctx);
  assert.deepEqual([await rows('bound'), await rows('tied')], before);
  assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);
  await component.generation(staged.record).undo(ctx);
});

test('what the server refuses is named; nothing is touched without consent, and everything else comes back with it', async () => {
  const backup = await run('backup');
  assert.equal(backup.exitCode, 0, backup.stderr);
  await bench.sql('whole', `UPDATE t SET x = 'live'`);
  const names = await bench.databaseNames();
  const refused = await run('restore', '--yes');
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /FK CONSTRAINT "public\.child child_p_fkey": .*violates foreign key/);
  assert.match(
    refused.stderr,
    /the statement was: ALTER TABLE ONLY public\.child ADD CONSTRAINT child_p_fkey/,
  );
  assert.match(refused.stderr, /TABLE DATA "public\.never"/);
  assert.match(refused.stderr, /nothing live was changed/);
  assert.match(refused.stderr, /--accept-missing/);
  assert.doesNotMatch(refused.stderr, /row-secret/);
  assert.deepEqual(await bench.databaseNames(), names);
  assert.deepEqual(await bench.sql('whole', 'SELECT x FROM t'), [{ x: 'live' }]);

  const accepted = await run('restore', '--yes', '--accept-missing', '--json');
  assert.equal(accepted.exitCode, 2, accepted.stderr);
  assert.deepEqual(await bench.sql('whole', 'SELECT x FROM t'), [{ x: 'captured' }]);
  assert.deepEqual(await bench.sql('broken', 'SELECT * FROM child'), [{ id: 1, p: 99 }]);
  assert.deepEqual(await bench.sql('broken', 'SELECT * FROM never'), []);
  assert.deepEqual(await bench.sql('tied', 'SELECT * FROM here'), [{ place: 'tied' }]);
  const { missing, findings } = JSON.parse(accepted.stdout) as Record<'missing' | 'findings', Finding[]>;
  assert.deepEqual(findings, []);
  assert.deepEqual(missing.map(({ code }) => code).sort(), [
    'object-rejected',
    'object-rejected',
    'object-rejected',
    'row-count-differs',
    'row-count-differs',
    'table-constraint-missing',
  ]);
});

test('single databases are restored, and the others stay as they are', async () => {
  await bench.sql('whole', `UPDATE t SET x = 'live'`);
  await bench.sql('late', 'ALTER EVENT TRIGGER refused DISABLE', 'CREATE TABLE newer (x int)');
  const restored = await run('restore', '--yes', '--database', 'whole');
  assert.equal(restored.exitCode, 0, restored.stderr);
  assert.deepEqual(await bench.sql('whole', 'SELECT x FROM t'), [{ x: 'captured' }]);
  assert.deepEqual(await bench.sql('late', 'SELECT * FROM newer'), []);
  const unknown = await run('restore', '--yes', '--database', 'nowhere');
  assert.equal(unknown.exitCode, 1);
  assert.match(unknown.stderr, /no database "nowhere"[^]*bound, broken, late, postgres, tied, whole/);
});
