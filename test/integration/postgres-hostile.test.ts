import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { hasErrors } from '../../src/model/finding.ts';
import { testContext } from '../fixtures/context.ts';
import { startBench, takeSnapshot, type PostgresBench } from '../fixtures/postgres.ts';

const ctx = testContext();
let bench: PostgresBench;
before(async () => {
  bench = await startBench();
  await bench.sql('postgres', 'CREATE ROLE powerless');
});
after(() => bench[Symbol.asyncDispose]());

/** Settings of the database are made last: they would hinder making the content. */
interface HostileDatabase {
  readonly content: readonly string[];
  readonly settings?: readonly string[];
  /** Must be seen by a verification. */
  readonly damage: string;
}

const databases: Record<string, HostileDatabase> = {
  "functions and tables in the place of the server's own": {
    content: [
      'CREATE SCHEMA evil; CREATE TABLE public.t AS SELECT 1 AS x',
      `CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'not set' $$`,
      `CREATE FUNCTION evil.hashtextextended(text, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'`,
      'CREATE TABLE evil.pg_settings (name text); CREATE TABLE evil.pg_class (oid oid, relname name)',
      'CREATE TABLE evil.pg_roles (rolname name); CREATE TABLE evil.pg_database (datname name)',
    ],
    settings: ['search_path TO evil, pg_catalog, public'],
    damage: 'UPDATE public.t SET x = 2',
  },
  'a cast of its own that makes all rows look the same': {
    content: [
      'CREATE TABLE t AS SELECT 1 AS x',
      `CREATE FUNCTION flat(t) RETURNS text LANGUAGE sql AS $$ SELECT 'same' $$`,
      'CREATE CAST (t AS text) WITH FUNCTION flat(t) AS IMPLICIT',
    ],
    damage: 'UPDATE t SET x = 2',
  },
  'settings that end sessions, refuse writes and give up rights': {
    content: ['CREATE TABLE t AS SELECT i, repeat(md5(i::text), 20) AS v FROM generate_series(1, 50000) i'],
    settings: [
      `statement_timeout TO '20ms'`,
      `lock_timeout TO '20ms'`,
      `idle_in_transaction_session_timeout TO '50ms'`,
      'default_transaction_read_only TO on',
      'role TO powerless',
    ],
    damage: 'DELETE FROM t WHERE i = 1',
  },
  'inherited columns in another order than a dump gives them': {
    content: [
      'CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent)',
      'ALTER TABLE parent ADD late text; INSERT INTO child VALUES (1, 2, $$x$$), (3, 4, $$y$$)',
      'CREATE TABLE adopted (z int, late text, a int); ALTER TABLE adopted INHERIT parent',
      'INSERT INTO adopted VALUES (5, $$v$$, 6)',
    ],
    damage: 'UPDATE child SET a = b, b = a WHERE a = 1',
  },
  'partitions whose rows a restore distributes anew': {
    content: [
      `CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd'); CREATE TABLE felt (m mood, i int) PARTITION BY HASH (m)`,
      ...[0, 1, 2].map(
        (i) => `CREATE TABLE felt${i} PARTITION OF felt FOR VALUES WITH (MODULUS 3, REMAINDER ${i})`,
      ),
      `INSERT INTO felt SELECT (ARRAY['a', 'b', 'c', 'd']::mood[])[1 + i % 4], i FROM generate_series(1, 400) i`,
    ],
    damage: 'UPDATE felt SET i = 0 WHERE i = 7',
  },
  'an event trigger that refuses what a restore does': {
    content: [
      'CREATE TABLE t AS SELECT 1 AS x',
      `CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$`,
      'CREATE EVENT TRIGGER refused ON ddl_command_start EXECUTE FUNCTION refuse()',
    ],
    damage: 'INSERT INTO t VALUES (1)',
  },
};

for (const [index, [what, { content, settings, damage }]] of Object.entries(databases).entries()) {
  test(`captured, restored and verified: a database with ${what}`, async () => {
    const name = `hostile${index}`;
    await bench.sql('postgres', `CREATE DATABASE ${name}`);
    await bench.sql(name, ...content);
    for (const setting of settings ?? []) {
      await bench.sql('postgres', `ALTER DATABASE ${name} SET ${setting}`);
    }
    const component = bench.component({ databases: [name] });
    const taken = await takeSnapshot(component, join(bench.root, name));
    const planned = await component.planRestore(
      taken.manifest,
      { restoreConfig: false, restoreId: `h${index}` },
      ctx,
      taken.source,
    );
    const staged = await planned.stage(taken.source, ctx);
    assert.deepEqual(await staged.verify(ctx), []);
    await staged.swap(ctx);
    assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);
    await bench.sql('postgres', `ALTER DATABASE ${name} RESET ALL`);
    await bench.sql(name, damage);
    assert.ok(hasErrors(await component.verify(taken.manifest, ctx, taken.source)), 'the damage is not seen');
  });
}
