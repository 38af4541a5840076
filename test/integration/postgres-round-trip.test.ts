import assert from 'node:assert/strict';
import { execa } from 'execa';
import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type pg from 'pg';
import { hasErrors } from '../../src/model/finding.ts';
import { testContext } from '../fixtures/context.ts';
import { appLogin, createCorpus, oddDatabase, wipeCorpus } from '../fixtures/postgres-corpus.ts';
import {
  allRows,
  globalsOf,
  schemaOf,
  startBench,
  takeSnapshot,
  type PostgresBench,
  type TakenSnapshot,
} from '../fixtures/postgres.ts';

const corpusDatabases = ['shop', oddDatabase];
const campaign = process.env['TARS_CAMPAIGN'] === 'full';
const ctx = testContext();

let bench: PostgresBench;
before(async () => {
  bench = await startBench();
  await createCorpus(bench);
});
after(() => bench[Symbol.asyncDispose]());

async function rowsOf(database: string): Promise<Record<string, string[]>> {
  const client = await bench.connect(database);
  try {
    return await allRows(client);
  } finally {
    await client.end();
  }
}

/** Everything a person could see of the corpus. */
async function everything(): Promise<unknown> {
  const databases: Record<string, unknown> = {};
  for (const name of corpusDatabases) {
    databases[name] = { schema: await schemaOf(bench, name), rows: await rowsOf(name) };
  }
  return { globals: await globalsOf(bench), databases };
}

async function restore(taken: TakenSnapshot, restoreId: string): Promise<readonly string[]> {
  const component = bench.component();
  const planned = await component.planRestore(
    taken.manifest,
    { restoreConfig: false, restoreId },
    ctx,
    taken.source,
  );
  const staged = await planned.stage(taken.source, ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await staged.swap(ctx);
  await staged.discard(ctx);
  return staged.record.wayBack;
}

test('everything lost, everything restored: roles, passwords, databases, schemas and all rows', async () => {
  const component = bench.component();
  const before = await everything();
  const taken = await takeSnapshot(component, join(bench.root, 'quiet'));
  await wipeCorpus(bench);
  const lost = await component.verify(taken.manifest, ctx, taken.source);
  assert.deepEqual(
    lost.map(({ code }) => code),
    ['role-missing', 'role-missing', 'database-missing', 'database-missing'],
  );
  await restore(taken, 'lost1');
  assert.deepEqual(await everything(), before);
  assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);
  const asApp = await bench.connect('shop', appLogin);
  const inserted = await asApp.query<{ current_user: string }>('SELECT current_user');
  assert.equal(inserted.rows[0]?.current_user, appLogin.user);
  await asApp.end();
  const [next] = await bench.sql('shop', `INSERT INTO public.kinds (txt) VALUES ('next') RETURNING id`);
  assert.equal(next?.['id'], String(1000 + 302 * 7));
  await bench.sql('shop', `DELETE FROM public.kinds WHERE txt = 'next'`);
});

test('only files of mode 0600 with predictable names are written, and stock pg_restore alone restores a dump', async () => {
  const taken = await takeSnapshot(bench.component(), join(bench.root, 'stock'));
  const folder = join(taken.directory, 'postgres');
  const names = (await readdir(folder)).sort();
  assert.deepEqual(names, [
    `Odd "db" = 'x' %25%2F%5C ü $HOME.dump`,
    'globals.sql',
    'postgres.dump',
    'server',
    'shop.dump',
  ]);
  const settings = (await readdir(join(folder, 'server'))).map((name) => join('server', name));
  for (const name of [...names.filter((name) => name !== 'server'), ...settings])
    assert.equal((await stat(join(folder, name))).mode & 0o777, 0o600);
  await bench.sql('postgres', 'CREATE DATABASE by_hand TEMPLATE template0');
  const { host, port, user, password, binDir } = bench.server;
  await execa(
    join(binDir, 'pg_restore'),
    ['-e', '-h', host, '-p', String(port), '-U', user, '-d', 'by_hand', join(folder, 'shop.dump')],
    { env: { PGPASSWORD: password } },
  );
  const expected = await rowsOf('shop');
  assert.ok((expected['public.kinds']?.length ?? 0) === 302);
  assert.deepEqual(await rowsOf('by_hand'), expected);
  await bench.sql('postgres', 'DROP DATABASE by_hand');
});

test('without encryption no password hash leaves the server; roles come back without and the plan says so', async () => {
  const component = bench.component({ databases: ['shop'] });
  const taken = await takeSnapshot(component, join(bench.root, 'clear'), { encrypted: false });
  const globals = await readFile(join(taken.directory, 'postgres/globals.sql'), 'utf8');
  assert.match(globals, /CREATE ROLE "App User"/);
  assert.doesNotMatch(globals, /SCRAM|PASSWORD/);
  assert.doesNotMatch(JSON.stringify(taken.manifest), /SCRAM/);
  await bench.sql('postgres', 'ALTER ROLE readers RENAME TO readers_were_here');
  const options = { restoreConfig: false, restoreId: 'clear1' };
  const planned = await component.planRestore(taken.manifest, options, ctx, taken.source);
  assert.match(planned.plan.steps[0] ?? '', /missing roles readers/);
  assert.doesNotMatch(planned.plan.warnings.join(), /readers/, 'a role without login needs no password');
  await bench.sql(
    'postgres',
    'ALTER ROLE readers_were_here RENAME TO readers',
    'ALTER ROLE "App User" RENAME TO renamed',
  );
  const second = await component.planRestore(taken.manifest, options, ctx, taken.source);
  assert.match(second.plan.warnings.join(), /no passwords: App User/);
  await bench.sql(
    'postgres',
    'ALTER ROLE renamed RENAME TO "App User"',
    `ALTER ROLE "App User" PASSWORD 'new'`,
  );
});

/** Writes the same number to two tables in one transaction, until told to stop; can be held like a paused process. */
class Writer {
  readonly acknowledged: number[] = [];
  #next: number;
  readonly #client: pg.Client;
  #stopped = false;
  #held: Promise<void> | undefined;
  #idle: (() => void) | undefined;
  readonly #ended: Promise<void>;

  constructor(client: pg.Client, first: number) {
    this.#client = client;
    this.#next = first;
    this.#ended = this.#write();
  }

  async #write(): Promise<void> {
    while (!this.#stopped) {
      this.#idle?.();
      await this.#held;
      const n = this.#next++;
      await this.#client.query(
        `WITH a AS (INSERT INTO public.load_a VALUES (${n})) INSERT INTO public.load_b VALUES (${n})`,
      );
      this.acknowledged.push(n);
    }
  }

  /** Runs `work` with no write under way; returns what was acknowledged by then. */
  async holding(work: () => Promise<void>): Promise<number[]> {
    let release = (): void => undefined;
    const idle = new Promise<void>((resolve) => (this.#idle = resolve));
    this.#held = new Promise((resolve) => (release = resolve));
    await idle;
    this.#idle = undefined;
    const sofar = [...this.acknowledged];
    await work();
    this.#held = undefined;
    release();
    return sofar;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#ended;
    await this.#client.end();
  }
}

test('under write load exactly what was acknowledged before the mark is restored', async () => {
  const runs = campaign ? 10 : 2;
  for (let run = 0; run < runs; run++) {
    await bench.sql('shop', 'TRUNCATE public.load_a, public.load_b');
    const writers = await Promise.all(
      [0, 1].map(async (i) => new Writer(await bench.connect('shop'), i * 1_000_000)),
    );
    const enough = (): boolean => writers.every(({ acknowledged }) => acknowledged.length > 50);
    while (!enough()) await new Promise(setImmediate);
    const expected: number[] = [];
    const component = bench.component({ databases: ['shop'] });
    const taken = await takeSnapshot(component, join(bench.root, `load${run}`), {
      atMark: async (mark) => {
        let marked = (): void => undefined;
        const done = new Promise<void>((resolve) => (marked = resolve));
        const held: Promise<number[]>[] = [];
        const holds = writers.map(
          (writer) => new Promise<void>((ready) => held.push(writer.holding(() => (ready(), done)))),
        );
        await Promise.all(holds);
        await mark();
        marked();
        expected.push(...(await Promise.all(held)).flat());
        const count = (): number => writers.reduce((sum, { acknowledged }) => sum + acknowledged.length, 0);
        while (count() < expected.length + 20) await new Promise(setImmediate);
      },
    });
    for (const writer of writers) await writer.stop();
    await restore(taken, `load${run}`);
    const numbers = async (table: string): Promise<number[]> =>
      (await bench.sql('shop', `SELECT n FROM public.${table} ORDER BY n`)).map(({ n }) => Number(n));
    expected.sort((a, b) => a - b);
    assert.deepEqual(await numbers('load_a'), expected, `run ${run}`);
    assert.deepEqual(await numbers('load_b'), expected, `run ${run}`);
    await component
      .generation({
        component: 'postgres',
        kind: 'postgres',
        wayBack: [],
        details: await recordOf('shop', `load${run}`),
      })
      .discardPrevious(ctx);
  }
  assert.deepEqual(
    (await bench.databaseNames()).filter((name) => /load/.test(name)),
    [],
  );
});

/** What the journal would hold of a swap that has happened. */
async function recordOf(live: string, restoreId: string): Promise<Record<string, unknown>> {
  const previous = `${live}_tars_prev_${restoreId}`;
  const rows = await bench.sql('postgres', `SELECT oid::int AS oid, datname FROM pg_database`);
  const oid = (name: string): unknown => rows.find(({ datname }) => datname === name)?.['oid'];
  const staged = `${live}_tars_new_${restoreId}`;
  const swap = { live, staged, previous, stagedOid: oid(live), liveOid: oid(previous) };
  return { databases: [swap], createdRoles: [] };
}

test('a verification sees a changed value, a lost row, a lost large object and a sequence set back', async () => {
  const component = bench.component({ databases: ['shop'] });
  const taken = await takeSnapshot(component, join(bench.root, 'compare'));
  assert.equal(hasErrors(await component.verify(taken.manifest, ctx, taken.source)), false);
  const damages: [string, string, string][] = [
    [`UPDATE public.kinds SET f8 = 1.5 WHERE id = 1007`, 'content-differs', ''],
    [`DELETE FROM public.child`, 'row-count-differs', 'public.child has 0 rows; 1 were captured'],
    [`SELECT lo_put(424242, 599999, '\\x00')`, 'large-objects-differ', ''],
    [`SELECT setval('public.down', -1)`, 'sequence-behind', 'is at -1; -2 was captured'],
    [`DROP TABLE public.unlogged`, 'table-missing', 'public.unlogged'],
    [`DROP EXTENSION hstore CASCADE`, 'extension-missing', 'hstore'],
  ];
  for (const [statement, code, text] of damages) {
    await bench.sql('shop', statement);
    const findings = await component.verify(taken.manifest, ctx, taken.source);
    const found = findings.find((finding) => finding.code === code);
    assert.equal(found?.severity, 'error', `${statement} gave ${JSON.stringify(findings)}`);
    assert.ok(found.message.includes(text), found.message);
  }
  const wayBack = await restore(taken, 'compare1');
  assert.deepEqual(await component.verify(taken.manifest, ctx, taken.source), []);
  // The printed way back works as printed.
  const { password } = bench.server;
  for (const line of wayBack) await execa('sh', ['-c', line], { env: { PGPASSWORD: password } });
  const undone = await component.verify(taken.manifest, ctx, taken.source);
  assert.ok(undone.some(({ code }) => code === 'table-missing'));
});
