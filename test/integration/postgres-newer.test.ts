import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { testContext } from '../fixtures/context.ts';
import {
  allRows,
  globalsOf,
  newerPostgres,
  schemaOf,
  startBench,
  takeSnapshot,
  type PostgresBench,
} from '../fixtures/postgres.ts';

const ctx = testContext();

/** What versions after 15 brought; from which version on. */
const shapes: readonly (readonly [since: number, statements: readonly string[]])[] = [
  [15, ['CREATE TABLE t AS SELECT i, md5(i::text) AS v FROM generate_series(1, 500) i']],
  [15, ['ALTER TABLE t ALTER i SET (n_distinct = 5)']],
  [16, ["CREATE TABLE packed (v text STORAGE EXTERNAL COMPRESSION pglz); INSERT INTO packed VALUES ('a')"]],
  [
    16,
    [
      `CREATE COLLATION ruled (provider = icu, locale = 'und', rules = '& a < g'); CREATE TABLE c (v text COLLATE ruled)`,
    ],
  ],
  [
    17,
    [
      'CREATE TABLE ids (n int GENERATED ALWAYS AS IDENTITY, p int) PARTITION BY LIST (p)',
      'CREATE TABLE ids1 PARTITION OF ids FOR VALUES IN (1); INSERT INTO ids (p) VALUES (1), (1)',
    ],
  ],
  [17, ['GRANT MAINTAIN ON t TO keeper']],
  [17, [`CREATE VIEW json AS SELECT * FROM JSON_TABLE('[{"a":1}]', '$[*]' COLUMNS (a int PATH '$.a'))`]],
  [
    18,
    [
      'CREATE TABLE virtual (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL); INSERT INTO virtual (a) VALUES (2)',
    ],
  ],
  [
    18,
    [
      'CREATE TABLE filled (a int); INSERT INTO filled VALUES (NULL)',
      'ALTER TABLE filled ADD CONSTRAINT filled_a NOT NULL a NOT VALID',
    ],
  ],
  [18, ['CREATE TABLE loose (p int CHECK (p > 0) NOT ENFORCED); INSERT INTO loose VALUES (-1)']],
  [
    18,
    [
      'CREATE EXTENSION btree_gist; CREATE TABLE spans (id int, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS))',
      `INSERT INTO spans VALUES (1, '[2026-01-01,2026-02-01)')`,
    ],
  ],
];

for (const major of ['17', '18']) {
  describe(`PostgreSQL ${major}`, { skip: newerPostgres(major) === undefined && 'it is not here' }, () => {
    let bench: PostgresBench;
    before(async () => {
      bench = await startBench(major);
    });
    after(() => bench[Symbol.asyncDispose]());

    const memberships = async (): Promise<string[]> =>
      (await globalsOf(bench))
        .split('\n')
        .filter((line) => /^GRANT|PARAMETER|^ALTER ROLE (ALL|keeper)/.test(line));

    test('what it brought is captured, restored, and equal, with the rights of its roles', async () => {
      await bench.sql(
        'postgres',
        'CREATE ROLE keeper; CREATE ROLE helper; CREATE ROLE boss CREATEROLE',
        'GRANT keeper TO helper WITH INHERIT FALSE, SET FALSE',
        'GRANT boss TO helper WITH ADMIN TRUE, INHERIT TRUE, SET FALSE',
        'GRANT SET ON PARAMETER log_min_duration_statement TO keeper',
        `ALTER ROLE keeper SET work_mem TO '8MB'`,
        'CREATE DATABASE app',
      );
      const made = shapes.filter(([since]) => bench.major >= since);
      await bench.sql('app', ...made.flatMap(([, statements]) => statements));
      const content = async (): Promise<unknown> => {
        const client = await bench.connect('app');
        try {
          return await allRows(client);
        } finally {
          await client.end();
        }
      };
      const before = [await content(), await schemaOf(bench, 'app'), await memberships()];
      const component = bench.component({ databases: ['app'] });
      const taken = await takeSnapshot(component, join(bench.root, 'app'));
      assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);

      await bench.sql('postgres', 'GRANT keeper TO helper WITH INHERIT TRUE');
      const widened = (await component.verify(taken.manifest, ctx, taken.source)).map(({ code }) => code);
      assert.deepEqual(widened, ['membership-differs']);

      await bench.sql('postgres', 'DROP DATABASE app');
      await bench.sql('postgres', 'REVOKE SET ON PARAMETER log_min_duration_statement FROM keeper');
      await bench.sql('postgres', 'DROP ROLE helper', 'DROP ROLE keeper', 'DROP ROLE boss');
      const options = { restoreConfig: false, restoreId: 'new1' };
      const planned = await component.planRestore(taken.manifest, options, ctx, taken.source);
      const staged = await planned.stage(taken.source, ctx);
      assert.deepEqual(
        (await staged.verify(ctx)).filter(({ severity }) => severity !== 'info'),
        [],
      );
      await staged.swap(ctx);
      assert.deepEqual(
        (await component.verify(taken.manifest, ctx, taken.source)).filter(
          ({ severity }) => severity !== 'info',
        ),
        [],
      );
      assert.deepEqual([await content(), await schemaOf(bench, 'app'), await memberships()], before);
    });
  });
}
