import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { describeIncomplete } from '../../src/model/manifest.ts';
import type { PreparedCapture } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';
import { manifestOf, startBench, takeSnapshot, type PostgresBench } from '../fixtures/postgres.ts';

const ctx = testContext();
let bench: PostgresBench;
before(async () => {
  bench = await startBench();
  // A lock table and a number of connections that odd stacks exceed, made small.
  await bench.sql(
    'postgres',
    'ALTER SYSTEM SET max_connections = 14',
    'ALTER SYSTEM SET max_locks_per_transaction = 14',
    'ALTER SYSTEM SET autovacuum_max_workers = 1',
    'ALTER SYSTEM SET max_worker_processes = 1',
    'ALTER SYSTEM SET max_wal_senders = 0',
    `ALTER SYSTEM SET wal_level = minimal`,
    'ALTER SYSTEM SET fsync = off',
  );
  await bench.server.stop();
  await bench.server.start();
});
after(() => bench[Symbol.asyncDispose]());

/** A context that keeps its warnings. */
function listening(): { own: typeof ctx; warnings: string[] } {
  const warnings: string[] = [];
  const warn = (message: string): void => {
    warnings.push(message);
  };
  return { own: { ...ctx, log: { ...ctx.log, warn } }, warnings };
}

async function create(name: string, ...statements: string[]): Promise<void> {
  await bench.sql('postgres', `CREATE DATABASE ${name} TEMPLATE template0`);
  await bench.sql(name, ...statements);
}

async function roundTrip(name: string): Promise<void> {
  const component = bench.component({ databases: [name] });
  const taken = await takeSnapshot(component, join(bench.root, name));
  const facts = taken.manifest.facts as { databases: { content: { unread?: unknown } }[] };
  assert.equal(facts.databases[0]?.content.unread, undefined);
  const options = { restoreConfig: false, restoreId: `r${name}` };
  const planned = await component.planRestore(taken.manifest, options, ctx, taken.source);
  const staged = await planned.stage(taken.source, ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.swap(ctx);
  assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);
  await bench.sql('postgres', `DROP DATABASE ${name}`, `DROP DATABASE ${name}_tars_prev_r${name}`);
}

/** What indexes and statistics of a table call by a bare name is looked for when a SELECT of the table is planned. */
const bareNames: Record<string, readonly string[]> = {
  'an index': ['CREATE INDEX ON t (slug(name))'],
  'the predicate of an index': [`CREATE INDEX ON t (name) WHERE slug(name) = 'a'`],
  'extended statistics': ['CREATE STATISTICS s ON slug(name), name FROM t'],
  'an index of an extension': [
    'CREATE EXTENSION earthdistance CASCADE',
    'CREATE TABLE place (x float8, y float8); INSERT INTO place VALUES (1, 2)',
    'CREATE INDEX ON place USING gist (ll_to_earth(x, y))',
  ],
  'the usual unaccent index': [
    'CREATE SCHEMA ext; CREATE EXTENSION unaccent SCHEMA ext',
    `ALTER DATABASE bare4 SET search_path TO public, ext; SET search_path TO public, ext`,
    `CREATE FUNCTION f_unaccent(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT unaccent('unaccent', $1) $$`,
    'CREATE INDEX ON t (f_unaccent(name))',
  ],
};

const ownNames = new Set(['an index', 'the predicate of an index', 'the usual unaccent index']);
const noneSince17 = 'From PostgreSQL 17 on, the server itself refuses to build an index on such a function';
for (const [index, [what, statements]] of Object.entries(bareNames).entries()) {
  test(`captured, restored and verified: bare names in functions of ${what}`, async (t) => {
    if (bench.major >= 17 && ownNames.has(what)) {
      t.skip(noneSince17);
      return;
    }
    await create(
      `bare${index}`,
      'CREATE FUNCTION trim_it(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT btrim($1) $$',
      'CREATE FUNCTION slug(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(trim_it($1)) $$',
      `CREATE TABLE t (name text); INSERT INTO t VALUES (' A '), ('b')`,
      ...statements,
    );
    await roundTrip(`bare${index}`);
  });
}

const tables = (count: number, indexes: number): string =>
  `DO $$ BEGIN FOR i IN 1..${count} LOOP
     EXECUTE format('CREATE TABLE t%s (x int)', i);
     FOR n IN 1..${indexes} LOOP EXECUTE format('CREATE INDEX ON t%s (x)', i); END LOOP;
     IF i % 20 = 0 THEN COMMIT; END IF;
   END LOOP; END $$`;

test('more tables and indexes than locks, in one database and in several, are captured', async () => {
  await create('indexed', tables(150, 3));
  for (const n of [1, 2]) await create(`many${n}`, tables(150, 0));
  await takeSnapshot(bench.component({ databases: ['indexed'] }), join(bench.root, 'indexed'));
  const databases = ['many1', 'many2', 'indexed'];
  await takeSnapshot(bench.component({ databases }), join(bench.root, 'many'));
  for (const name of databases) await bench.sql('postgres', `DROP DATABASE ${name}`);
});

async function finish(prepared: PreparedCapture, directory: string, own = ctx) {
  await prepared.mark(own.signal);
  await prepared.settle(own);
  const at = join(bench.root, directory);
  const sink = createDirectorySink(at, { encrypted: true });
  const report = await prepared.capture(sink, own);
  return {
    report,
    manifest: manifestOf(bench.component(), report, sink.artifacts),
    source: createDirectorySource(at),
  };
}

const namesIn = (facts: Readonly<Record<string, unknown>>): string[] =>
  (facts['databases'] as { name: string }[]).map(({ name }) => name);

test('more databases than connections are all captured; the moment is said to be their own', async () => {
  const databases = Array.from({ length: 7 }, (_, n) => `few${n}`);
  for (const name of databases) await create(name, `CREATE TABLE t AS SELECT '${name}' AS x`);
  const { own, warnings } = listening();
  await using prepared = await bench.component({ databases }).prepare(own);
  const used = await bench.sql(
    'postgres',
    `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname ~ '^few'`,
  );
  assert.ok(Number(used[0]?.['n']) <= 5, 'half of the connections are left to others');
  assert.equal(prepared.pointInTime, 'own');
  assert.match(warnings.join(), /too few free connections.*few/);
  const { report } = await finish(prepared, 'few', own);
  assert.deepEqual(namesIn(report.facts), databases.sort());
  assert.equal(report.incomplete, undefined);
  for (const name of databases) await bench.sql('postgres', `DROP DATABASE ${name}`);
});

test('a database that cannot be captured is named, and keeps no other from being captured and restored', async () => {
  await create('good', 'CREATE TABLE t AS SELECT 1 AS x');
  await create('shut', 'CREATE TABLE t AS SELECT 1 AS x');
  await create('half');
  await bench.sql(
    'postgres',
    'ALTER DATABASE shut ALLOW_CONNECTIONS false',
    `UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'`,
  );
  const { own, warnings } = listening();
  await (await bench.component().prepare(own))[Symbol.asyncDispose]();
  assert.match(warnings.join('\n'), /"half" is not captured: an interrupted DROP DATABASE/);
  assert.match(warnings.join('\n'), /"shut" is not captured: it accepts no connections/);
  const named = await bench.component({ databases: ['good', 'shut'] }).prepare(own);
  const { report, manifest } = await finish(named, 'good', own);
  await named[Symbol.asyncDispose]();
  assert.deepEqual(namesIn(report.facts), ['good']);
  const lacking = describeIncomplete(report) ?? '';
  assert.match(lacking, /database "shut": .*not currently accepting connections/);
  const probe = await bench.component().probe(ctx);
  assert.match(probe.warnings.join('\n'), /"half" is not captured/);
  const planned = await bench
    .component()
    .planRestore(manifest, { restoreConfig: false, restoreId: 'good1' }, ctx, noArtifacts);
  const staged = await planned.stage(createDirectorySource(join(bench.root, 'good')), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.discard(ctx);
  await assert.rejects(bench.component({ databases: ['shut'] }).prepare(ctx), /shut/);
  await bench.sql('postgres', 'DROP DATABASE half', 'DROP DATABASE shut', 'DROP DATABASE good');
});

test('a table dropped while the capture runs costs its database, and is named', async () => {
  await create('kept', 'CREATE TABLE t AS SELECT 1 AS x');
  await create('changed', tables(150, 0));
  const { own, warnings } = listening();
  await using prepared = await bench.component({ databases: ['changed', 'kept'] }).prepare(own);
  await prepared.mark(own.signal);
  await bench.sql('changed', 'TRUNCATE t7');
  await prepared.settle(own);
  const sink = createDirectorySink(join(bench.root, 'kept'), { encrypted: true });
  const report = await prepared.capture(sink, own);
  assert.deepEqual(namesIn(report.facts), ['kept']);
  assert.match(describeIncomplete(report) ?? '', /database "changed" \(.*public\.t7/);
  assert.match(warnings.join(), /"changed" is not captured/);
});

test('what cannot be read to be compared is dumped all the same, and verification says so', async (t) => {
  if (bench.major >= 17) {
    t.skip(noneSince17);
    return;
  }
  await create(
    'unread',
    'CREATE TABLE t (name text); CREATE TABLE other AS SELECT 1 AS x',
    'CREATE FUNCTION inner_one(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$',
    'CREATE FUNCTION outer_one(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT inner_one($1) $$',
    'CREATE INDEX ON t (outer_one(name))',
    'DROP FUNCTION inner_one(text)',
  );
  const component = bench.component({ databases: ['unread'] });
  const { own, warnings } = listening();
  await using prepared = await component.prepare(own);
  const { manifest } = await finish(prepared, 'unread', own);
  assert.match(warnings.join(), /"unread" is dumped, but a restore cannot verify table public\.t/);
  const findings = await component.verify(manifest, ctx, noArtifacts);
  assert.deepEqual(
    findings.map(({ severity, code }) => `${severity} ${code}`),
    ['warning not-compared'],
  );
  assert.match(findings[0]?.message ?? '', /table public\.t/);
});

test('configuration that an extension keeps in tables is compared, as far as it is dumped', async () => {
  await create(
    'configured',
    'CREATE EXTENSION hstore; CREATE TABLE config (id int, v text)',
    `INSERT INTO config VALUES (1, 'built in'), (100, 'mine')`,
    'ALTER EXTENSION hstore ADD TABLE config',
    `UPDATE pg_extension SET extconfig = ARRAY['config'::regclass::oid], extcondition = ARRAY['WHERE id >= 100']
     WHERE extname = 'hstore'`,
  );
  await bench.sql(
    'configured',
    'CREATE TABLE queue AS SELECT 1 AS x',
    'ALTER EXTENSION hstore ADD TABLE queue',
  );
  const component = bench.component({ databases: ['configured'] });
  const { own, warnings } = listening();
  await using prepared = await component.prepare(own);
  const taken = await finish(prepared, 'configured', own);
  assert.match(warnings.join(), /extension hstore keeps rows in public\.queue that pg_dump leaves out/);
  await bench.sql('configured', `UPDATE config SET v = 'newer version' WHERE id = 1`);
  assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);
  await bench.sql('configured', 'DELETE FROM config');
  assert.deepEqual(
    (await component.verify(taken.manifest, ctx, taken.source)).map(
      ({ severity, code }) => `${severity} ${code}`,
    ),
    ['error row-count-differs'],
  );
});
