import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { TarsError } from '../../src/model/errors.ts';
import type { Component, Staged } from '../../src/ports/component.ts';
import { testContext } from '../fixtures/context.ts';
import { startBench, takeSnapshot, type PostgresBench, type TakenSnapshot } from '../fixtures/postgres.ts';

const ctx = testContext();
let bench: PostgresBench;
let component: Component;
let taken: TakenSnapshot;
let namesBefore: string[];

before(async () => {
  bench = await startBench();
  component = bench.component({ databases: ['small', 'second'] });
  await bench.sql('postgres', 'CREATE DATABASE small', 'CREATE DATABASE second', 'CREATE DATABASE bystander');
  for (const database of ['small', 'second']) {
    await bench.sql(database, `CREATE TABLE state AS SELECT 'captured' AS value`);
  }
  taken = await takeSnapshot(component, join(bench.root, 'snapshot'));
  for (const database of ['small', 'second']) {
    await bench.sql(database, `UPDATE state SET value = 'live'`);
  }
  namesBefore = await bench.databaseNames();
});
after(() => bench[Symbol.asyncDispose]());

async function stage(restoreId: string): Promise<Staged> {
  const planned = await component.planRestore(
    taken.manifest,
    { restoreConfig: false, restoreId },
    ctx,
    taken.source,
  );
  return planned.stage(taken.source, ctx);
}

async function values(): Promise<unknown[]> {
  const rows = [];
  for (const database of ['small', 'second']) {
    rows.push(await bench.sql(database, 'SELECT value FROM state').catch((error: unknown) => String(error)));
  }
  return rows.map((row) => (Array.isArray(row) ? row[0]?.['value'] : row));
}

/** The statements of a swap, one by one: a crash may come after any of them on a server where a person helps. */
function statementsOf(restoreId: string, database: string): string[] {
  const [staged, previous] = [`${database}_tars_new_${restoreId}`, `${database}_tars_prev_${restoreId}`];
  return [
    `ALTER DATABASE ${database} ALLOW_CONNECTIONS false`,
    `ALTER DATABASE ${database} RENAME TO ${previous}`,
    `ALTER DATABASE ${staged} RENAME TO ${database}`,
    `ALTER DATABASE ${previous} ALLOW_CONNECTIONS true`,
  ];
}

const statementCount = 8;
for (let done = 0; done <= statementCount; done++) {
  test(`after ${done} of ${statementCount} statements of a swap, undo brings the old back and swap finishes`, async () => {
    for (const [attempt, action] of (['undo', 'finish'] as const).entries()) {
      const restoreId = `h${done}${attempt}`;
      const staged = await stage(restoreId);
      const all = [...statementsOf(restoreId, 'small'), ...statementsOf(restoreId, 'second')];
      await bench.sql('postgres', ...all.slice(0, done));
      if (action === 'finish') {
        await staged.swap(ctx);
        await staged.swap(ctx);
        assert.deepEqual(await values(), ['captured', 'captured']);
        await staged.discard(ctx);
        assert.deepEqual(await values(), ['captured', 'captured'], 'discard after a swap is harmless');
      }
      // Another process, which has only the journal.
      const record = JSON.parse(JSON.stringify(staged.record)) as typeof staged.record;
      const generation = bench.component().generation(record);
      await generation.undo(ctx);
      await generation.undo(ctx);
      assert.deepEqual(await values(), ['live', 'live']);
      assert.deepEqual(await bench.databaseNames(), namesBefore);
    }
  });
}

test('a swap into a server without the databases is undone to a server without them', async () => {
  const renames = (from: string, to: string): string[] =>
    ['small', 'second'].map((name) => `ALTER DATABASE ${name}${from} RENAME TO ${name}${to}`);
  await bench.sql('postgres', ...renames('', '_hidden'));
  const names = await bench.databaseNames();
  try {
    const staged = await stage('fresh1');
    await staged.swap(ctx);
    assert.deepEqual(await values(), ['captured', 'captured']);
    assert.doesNotMatch((await bench.databaseNames()).join(), /_tars_/);
    await component.generation(staged.record).undo(ctx);
    assert.deepEqual(await bench.databaseNames(), names);
  } finally {
    await bench.sql('postgres', ...renames('_hidden', ''));
  }
});

test('once the previous databases are discarded, undo refuses and leaves the restored ones alone', async () => {
  const staged = await stage('discard1');
  const generation = component.generation(staged.record);
  await generation.discardPrevious(ctx);
  assert.deepEqual(await values(), ['live', 'live'], 'nothing is discarded before the swap');
  await staged.swap(ctx);
  await generation.discardPrevious(ctx);
  await generation.discardPrevious(ctx);
  assert.deepEqual(await bench.databaseNames(), namesBefore);
  await assert.rejects(
    generation.undo(ctx),
    /Cannot undo the restore: the previous database .* no longer exists/,
  );
  assert.deepEqual(await values(), ['captured', 'captured']);
  for (const database of ['small', 'second']) await bench.sql(database, `UPDATE state SET value = 'live'`);
});

test('a database somebody else created under the live name is neither replaced nor dropped', async () => {
  const staged = await stage('stranger1');
  await bench.sql('postgres', 'ALTER DATABASE small RENAME TO small_elsewhere', 'CREATE DATABASE small');
  const generation = component.generation(staged.record);
  const isFailure = (error: unknown): boolean =>
    error instanceof TarsError && error.code === 'restore-failed' && error.hint !== undefined;
  await assert.rejects(staged.swap(ctx), isFailure);
  await assert.rejects(generation.undo(ctx), isFailure);
  await bench.sql('postgres', 'DROP DATABASE small', 'ALTER DATABASE small_elsewhere RENAME TO small');
  await generation.undo(ctx);
  assert.deepEqual(await values(), ['live', 'live']);
  assert.deepEqual(await bench.databaseNames(), namesBefore);
});

test('a swap ends the sessions of the staged database too: what visits every database of a server is in it', async () => {
  const staged = await stage('visited1');
  const visitor = await bench.connect('small_tars_new_visited1');
  await staged.swap(ctx);
  await assert.rejects(visitor.query('SELECT 1'));
  assert.deepEqual(await values(), ['captured', 'captured']);
  await component.generation(staged.record).undo(ctx);
  assert.deepEqual(await values(), ['live', 'live']);
});

test('a swap succeeds against applications that reconnect without pause, and they find the new data', async () => {
  let running = true;
  const seen = new Set<unknown>();
  const application = async (): Promise<void> => {
    while (running) {
      try {
        const client = await bench.connect('small');
        seen.add((await client.query<{ value: string }>('SELECT value FROM state')).rows[0]?.value);
        // Left open: only the swap ends it.
      } catch {
        // Refused or ended by the swap.
      }
    }
  };
  const staged = await stage('busy1');
  const applications = [application(), application()];
  while (!seen.has('live')) await new Promise(setImmediate);
  await staged.swap(ctx);
  while (!seen.has('captured')) await new Promise(setImmediate);
  running = false;
  await Promise.all(applications);
  await component.generation(staged.record).undo(ctx);
  assert.deepEqual(await values(), ['live', 'live']);
});

test('names at the limit of 63 bytes are restored beside their live database', async () => {
  const name = `${'ü'.repeat(31)}x`;
  await bench.sql('postgres', `CREATE DATABASE "${name}"`);
  await bench.sql(name, `CREATE TABLE state AS SELECT 'captured' AS value`);
  const own = bench.component({ databases: [name] });
  const long = await takeSnapshot(own, join(bench.root, 'long'));
  await bench.sql(name, `UPDATE state SET value = 'live'`);
  const names = await bench.databaseNames();
  const planned = await own.planRestore(
    long.manifest,
    { restoreConfig: false, restoreId: 'long1' },
    ctx,
    long.source,
  );
  const staged = await planned.stage(long.source, ctx);
  await staged.swap(ctx);
  assert.deepEqual(await bench.sql(name, 'SELECT value FROM state'), [{ value: 'captured' }]);
  const [left, ...others] = (await bench.component().leftovers?.(ctx)) ?? [];
  assert.match(left?.what ?? '', /^database ".*_tars_prev_long1"$/);
  assert.match(left?.remove ?? '', /^psql .* 'DROP DATABASE ".*_tars_prev_long1"'$/);
  assert.deepEqual(others, []);
  await own.generation(staged.record).undo(ctx);
  assert.deepEqual(await bench.sql(name, 'SELECT value FROM state'), [{ value: 'live' }]);
  assert.deepEqual(await bench.databaseNames(), names);
});

test('a staged database that an interrupted DROP DATABASE left invalid is in the way of nothing', async () => {
  const names = await bench.databaseNames();
  const staged = await stage('invalid1');
  await bench.sql(
    'postgres',
    `UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'small_tars_new_invalid1'`,
  );
  await component.removeStaged('invalid1', ctx);
  assert.deepEqual(await bench.databaseNames(), names);
  await staged.discard(ctx);
});

test('a live database that an interrupted DROP DATABASE left invalid is named before anything is done', async () => {
  await bench.sql('postgres', `UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'second'`);
  try {
    const options = { restoreConfig: false, restoreId: 'invalid2' };
    await assert.rejects(
      component.planRestore(taken.manifest, options, ctx, taken.source),
      /"second" was left unusable/,
    );
  } finally {
    await bench.sql('postgres', `UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'second'`);
  }
});

test('a staged database that something holds is named, and keeps no other from being removed', async () => {
  const names = await bench.databaseNames();
  const staged = await stage('held1');
  const holder = await bench.connect('postgres');
  await holder.query(`BEGIN; COMMENT ON DATABASE second_tars_new_held1 IS 'held'`);
  const naming = (error: unknown): boolean => {
    assert.ok(error instanceof TarsError);
    assert.match(error.message, /"second_tars_new_held1" cannot be dropped: .*lock timeout/);
    assert.match(error.hint ?? '', /pg_stat_activity/);
    return true;
  };
  await assert.rejects(component.removeStaged('held1', ctx), naming);
  assert.deepEqual(
    (await bench.databaseNames()).filter((name) => name.includes('held1')),
    ['second_tars_new_held1'],
  );
  await holder.end();
  await staged.discard(ctx);
  assert.deepEqual(await bench.databaseNames(), names);
});
