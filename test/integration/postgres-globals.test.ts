import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { testContext } from '../fixtures/context.ts';
import { globalsOf, startBench, takeSnapshot, type PostgresBench } from '../fixtures/postgres.ts';

const ctx = testContext();
let bench: PostgresBench;
before(async () => {
  bench = await startBench();
});
after(() => bench[Symbol.asyncDispose]());

const described = async (): Promise<string[]> =>
  (await globalsOf(bench)).split('\n').filter((line) => /PARAMETER|work_mem|GRANT/.test(line));

test('what databases share is restored with new roles, or named; verification compares all of it', async () => {
  await bench.sql(
    'postgres',
    'CREATE ROLE boss; CREATE ROLE worker LOGIN; GRANT boss TO worker',
    'GRANT SET ON PARAMETER log_min_duration_statement TO worker WITH GRANT OPTION',
    `ALTER ROLE worker SET work_mem TO '8MB'`,
    `ALTER ROLE ALL SET maintenance_work_mem TO '70MB'`,
    'CREATE DATABASE app OWNER worker',
  );
  await bench.sql('template1', 'CREATE TABLE seed AS SELECT 1 AS x');
  const warnings: string[] = [];
  const warn = (message: string): void => {
    warnings.push(message);
  };
  await using looking = await bench.component().prepare({ ...ctx, log: { ...ctx.log, warn } });
  assert.equal(looking.pointInTime, 'cut');
  assert.deepEqual(warnings, ['Database "template1" is not captured: it is a template, and has public.seed']);
  await looking[Symbol.asyncDispose]();
  const component = bench.component({ databases: ['app'] });
  const before = await described();
  const taken = await takeSnapshot(component, join(bench.root, 'app'));
  assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);

  await bench.sql('postgres', 'REVOKE boss FROM worker', 'ALTER ROLE worker RESET work_mem');
  await bench.sql('postgres', 'REVOKE ALL ON PARAMETER log_min_duration_statement FROM worker');
  await bench.sql('postgres', 'ALTER ROLE ALL RESET maintenance_work_mem');
  const codes = (await component.verify(taken.manifest, ctx, taken.source)).map(
    ({ severity, code }) => `${severity} ${code}`,
  );
  assert.deepEqual(codes, [
    'warning role-differs',
    'warning membership-differs',
    'warning parameter-grant-differs',
    'warning common-setting-differs',
  ]);

  await bench.sql('postgres', 'DROP DATABASE app', 'DROP ROLE worker');
  const options = { restoreConfig: false, restoreId: 'app1' };
  const planned = await component.planRestore(taken.manifest, options, ctx, taken.source);
  const statement = 'ALTER ROLE ALL SET "maintenance_work_mem" TO \'70MB\'';
  assert.ok(
    planned.plan.warnings.some((warning) => warning.includes(statement)),
    planned.plan.warnings.join(),
  );
  const staged = await planned.stage(taken.source, ctx);
  await staged.discard(ctx);
  assert.deepEqual(await bench.sql('postgres', `SELECT 1 FROM pg_roles WHERE rolname = 'worker'`), []);
  await assert.rejects(planned.stage(taken.source, ctx), /The plan to restore \S+ was used before/);
  const again = await (
    await component.planRestore(taken.manifest, options, ctx, taken.source)
  ).stage(taken.source, ctx);
  await again.swap(ctx);
  await bench.sql('postgres', statement);
  assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);
  assert.deepEqual(await described(), before);
});
