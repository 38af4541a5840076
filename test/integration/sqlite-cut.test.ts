import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { renderShow } from '../../src/cli/render/show.ts';
import { createTreesComponent } from '../../src/components/files/index.ts';
import type { TreesFacts } from '../../src/components/files/facts.ts';
import { countAmounts, databasesIn } from '../../src/composition/index.ts';
import type { SnapshotSummary } from '../../src/model/snapshot.ts';
import type { ComponentManifest, Manifest } from '../../src/model/manifest.ts';
import { backup } from '../../src/operations/backup/backup.ts';
import type { Component } from '../../src/ports/component.ts';
import type { Clock } from '../../src/ports/context.ts';
import { systemClock } from '../../src/runtimes/system-clock.ts';
import { TreeStack } from '../fixtures/tree-stack.ts';
import { createGuardian } from '../../src/runtimes/guardian/index.ts';
import { createProcessRuntime } from '../../src/runtimes/process/index.ts';
import { collect, label, manifestOf, never } from '../fixtures/archives.ts';
import { counted } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { RepositoryDirectory } from '../fixtures/repositories.ts';
import { sqliteState, startSqliteService, type SqliteState } from '../fixtures/sqlite-service.ts';

const ctx = testContext();
const rows = 1500;
const captures = counted(2, 25);
const root = await mkdtemp(join(tmpdir(), 'tars-sqlite-cut-'));
after(() => rm(root, { recursive: true, force: true }));

let repository: RepositoryDirectory;
before(async () => {
  repository = await RepositoryDirectory.created();
});
after(() => repository[Symbol.asyncDispose]());

/** One backup of a stack whose only service writes to the tree. */
async function takeBackup(
  component: Component,
  pidFile: string,
  writer: 'paused' | 'not declared',
): Promise<Manifest> {
  const service = { pidFile, dependsOn: [], stopTimeoutMs: 0, startTimeoutMs: 0 };
  const runtime = createProcessRuntime({
    services: { app: service },
    writers: writer === 'paused' ? { app: { pidFile } } : {},
    seemWriters: writer === 'paused' ? {} : { app: 'depends on db' },
  });
  await using store = await repository.store();
  const target = {
    ...{ ...label, toolVersion: 'test', components: [component], notCaptured: [] },
    ...{ runtime, guardian: createGuardian(), pauseMaxMs: 20_000 },
  };
  const { manifest } = await backup(target, store, ctx);
  return manifest;
}

/** Takes the tree out of the last snapshot, and asks its database. */
async function stateInSnapshot(tree: string): Promise<SqliteState & { names: readonly string[] }> {
  const directory = await mkdtemp(join(root, 'restored-'));
  await using store = await repository.store();
  await using source = await store.open('latest', label, ctx);
  const names: string[] = [];
  for await (const { path, type } of source.entries(`data${tree}`, never)) {
    if (type !== 'file') continue;
    const name = path.split('/').at(-1) ?? '';
    names.push(name);
    await writeFile(join(directory, name), await collect(source.open(path, never)));
  }
  try {
    return { ...sqliteState(join(directory, 'app.db'), rows), names };
  } finally {
    await rm(directory, { recursive: true });
  }
}

function only({ components: [component] }: Manifest): ComponentManifest {
  assert.ok(component);
  return component;
}

const databasesOf = (component: ComponentManifest) =>
  (component.facts as TreesFacts).trees.flatMap(({ databases = [] }) => databases);

for (const mode of ['wal', 'delete'] as const) {
  for (const writer of ['paused', 'not declared'] as const) {
    describe(`a busy database (${mode}), whose writer is ${writer}`, () => {
      const home = join(root, `${mode}-${writer}`);
      const tree = join(home, 'tree');
      const scratchDir = join(home, 'scratch');

      test(`${captures} snapshots hold it whole`, async (t) => {
        await mkdir(tree, { recursive: true });
        await using service = await startSqliteService({
          ...{ path: join(tree, 'app.db'), home: join(home, 'service'), mode, intervalMs: 2, rows },
        });
        await writeFile(join(tree, 'beside.txt'), 'beside');
        const trees = [{ path: tree, live: tree, exclude: [] }];
        const component = createTreesComponent({ name: 'data', service: undefined, trees, scratchDir });
        for (let count = 0; count < captures; count++) {
          const manifest = await takeBackup(component, service.pidFile, writer);
          await service.goesOn();
          const data = only(manifest);
          const isCut = writer === 'paused';
          assert.equal(manifest.outcome, 'complete', JSON.stringify(data.incomplete));
          assert.equal(manifest.consistency, isCut ? 'cut' : 'per-store', manifest.consistencyReason);
          assert.equal(data.pointInTime, isCut ? 'cut' : 'own');
          const state = await stateInSnapshot(tree);
          t.diagnostic(`pause ${manifest.writerPauseMs ?? '-'} ms, ${state.names.join(' ')}`);
          assert.equal(state.integrity, 'ok');
          assert.ok(state.isWhole);
          const acknowledged = await service.acknowledgedAt(manifest.time);
          assert.ok(acknowledged > 0 && state.seq >= acknowledged, `${state.seq}, ${acknowledged}`);
          if (isCut) assert.ok(state.seq <= acknowledged + 1, `${state.seq}, ${acknowledged}`);
          assert.ok(!state.names.includes('app.db-shm') && state.names.includes('beside.txt'));
          const [database] = databasesOf(data);
          assert.equal(database?.check, 'integrity');
          assert.equal(database.journal, mode === 'wal' ? 'wal' : 'rollback');
          assert.deepEqual(database.tables.slice(0, 2), [
            { name: 'here', rows },
            { name: 'moves', rows: Math.min(state.seq, 501) },
          ]);
        }
        assert.deepEqual(await readdir(scratchDir), []);
      });
    });
  }
}

/** By which a database that was written just now is old enough for its time stamps to prove something. */
const laterClock: Clock = { ...systemClock, now: () => new Date(Date.now() + 10_000) };

describe('a database in a directory', () => {
  let tree: string;
  let path: string;
  let stack: TreeStack;
  let scratchDir: string;
  let open: DatabaseSync | undefined;
  beforeEach(async () => {
    const home = await mkdtemp(join(root, 'one-'));
    [tree, scratchDir] = [join(home, 'tree'), join(home, 'scratch')];
    path = join(tree, 'sub/app.db');
    await mkdir(join(tree, 'sub'), { recursive: true });
    stack = await TreeStack.create({ trees: [{ path: tree, live: tree, exclude: [] }], scratchDir });
  });
  afterEach(async () => {
    open?.close();
    open = undefined;
    await stack[Symbol.asyncDispose]();
  });

  /** One with a hundred rows, and an open connection. */
  function create(mode: 'wal' | 'delete'): DatabaseSync {
    open = new DatabaseSync(path);
    open.exec(
      `PRAGMA journal_mode = ${mode}; CREATE TABLE users (name TEXT); CREATE TABLE notes (text TEXT)`,
    );
    for (let i = 0; i < 100; i++) open.exec(`INSERT INTO users VALUES ('user ${i} ${'x'.repeat(100)}')`);
    return open;
  }
  const close = (): void => {
    open?.close();
    open = undefined;
  };
  const rowsOf = (database: string): unknown => {
    using opened = new DatabaseSync(database, { readOnly: true });
    return opened.prepare('SELECT count(*) AS rows FROM users').get()?.['rows'];
  };

  test('what nobody has open is copied, not opened; verify and show speak of its tables', async () => {
    create('wal');
    close();
    const before = await readdir(join(tree, 'sub'));
    const captured = await stack.backup({ clock: laterClock, terms: { isQuiet: false } });
    assert.equal(captured.pointInTime, 'cut');
    assert.deepEqual(await readdir(join(tree, 'sub')), before);
    const [database] = databasesOf(captured);
    const tables = [
      { name: 'notes', rows: 0 },
      { name: 'users', rows: 100 },
    ];
    assert.deepEqual(
      { ...database, sizeBytes: 0 },
      { path: 'sub/app.db', sizeBytes: 0, journal: 'wal', check: 'integrity', tables, tableCount: 2 },
    );
    assert.deepEqual(await stack.verify(), []);
    const summary = { id: '0'.repeat(64) } as SnapshotSummary;
    const shown = renderShow(summary, { ...manifestOf([]), components: [captured] }, databasesIn);
    assert.match(shown, /SQLite, WAL +checked +\/.*\/tree\/sub\/app\.db +notes 0, users 100/);
    assert.deepEqual(countAmounts(captured), [
      ['files', 1],
      ['rows', 100],
    ]);

    open = new DatabaseSync(path);
    open.exec("INSERT INTO users VALUES ('one more'); DROP TABLE notes");
    const found = (await stack.verify()).map(({ code, message }) => `${code} ${message}`).sort();
    assert.match(
      found.join('\n'),
      /^rows-differ .*app\.db has other rows than in the snapshot: the table notes is missing, users has 101 rows instead of 100$/m,
    );
    assert.doesNotMatch(found.join('\n'), /-shm/);
  });

  test('known from the last snapshot, it is checked again and not stored again', async () => {
    create('wal');
    close();
    await stack.backup({ clock: laterClock });
    const again = await stack.backup({ clock: laterClock });
    assert.deepEqual(
      stack.written.filter((each) => each.startsWith('data/')),
      [],
    );
    assert.equal(databasesOf(again)[0]?.check, 'integrity');
  });

  test('an archive holds it as well', async () => {
    create('wal');
    for (const clock of [laterClock, systemClock]) {
      const captured = await stack.backup({ clock, storesBefore: false, terms: { isQuiet: false } });
      assert.equal(captured.pointInTime, clock === laterClock ? 'cut' : 'own');
      assert.equal(databasesOf(captured)[0]?.tables[1]?.rows, 100);
      open?.exec('PRAGMA user_version = 2');
    }
    close();
    await stack.restore();
    assert.equal(rowsOf(path), 100);
  });

  test('what does not fit into the pause is fixed by a transaction, and is of the cut', async () => {
    const database = create('wal');
    const captured = await stack.backup({
      terms: { timeoutMs: 0 },
      resumed: () => {
        database.exec("INSERT INTO users VALUES ('too late')");
        return Promise.resolve();
      },
    });
    assert.equal(captured.pointInTime, 'cut', stack.ownReason);
    assert.equal(databasesOf(captured)[0]?.tables[1]?.rows, 100);
    close();
    await stack.restore();
    assert.deepEqual(await readdir(join(tree, 'sub')), ['app.db']);
    assert.equal(rowsOf(path), 100);
  });

  test('a large one in WAL mode is not copied during the pause, and is of the cut', async () => {
    const database = create('wal');
    database.exec('PRAGMA synchronous = OFF; BEGIN');
    for (let i = 0; i < 34; i++) database.exec('INSERT INTO notes VALUES (randomblob(1 << 20))');
    database.exec('COMMIT; PRAGMA wal_checkpoint');
    const captured = await stack.backup({
      resumed: () => {
        database.exec('DELETE FROM notes');
        return Promise.resolve();
      },
    });
    assert.equal(captured.pointInTime, 'cut', stack.ownReason);
    assert.deepEqual(
      databasesOf(captured)[0]?.tables.map(({ rows: found }) => found),
      [34, 100],
    );
    assert.deepEqual(stack.copied, ['0 B']);
  });

  test('what somebody writes during the pause all the same is read again, and is not of the cut', async () => {
    create('delete');
    close();
    const whole = await readFile(path);
    const torn = Buffer.from(whole).fill(0xff, 4096, 3 * 4096);
    const captured = await stack.backup({
      paused: () => writeFile(path, torn),
      resumed: () => writeFile(path, whole),
    });
    assert.equal(captured.pointInTime, 'own');
    assert.match(
      stack.ownReason ?? '',
      /app\.db was written during the pause by something that was not paused/,
    );
    assert.equal(captured.incomplete, undefined);
    assert.equal(databasesOf(captured)[0]?.check, 'integrity');
  });

  test('a damaged one is captured and named, and the snapshot is not complete', async () => {
    create('delete');
    close();
    const damaged = Buffer.from(await readFile(path)).fill(0xff, 4096, 3 * 4096);
    await writeFile(path, damaged);
    const captured = await stack.backup({ clock: laterClock });
    const [named] = captured.incomplete?.named ?? [];
    assert.equal(named?.path, path);
    assert.match(named.reason, /^SQLite found damage in it: /);
    assert.equal(databasesOf(captured)[0]?.check, 'failed');
    await rm(path);
    await stack.restore();
    assert.ok((await readFile(path)).equals(damaged));
    assert.deepEqual(await stack.verify(), []);
  });

  test('SQLite is never led elsewhere by a link that lies beside a database', async () => {
    create('wal');
    close();
    const victim = join(root, 'victim');
    await writeFile(victim, 'untouched');
    await symlink(victim, `${path}-shm`);
    const captured = await stack.backup({ terms: { isQuiet: false } });
    assert.equal(await readFile(victim, 'utf8'), 'untouched');
    assert.match(captured.incomplete?.named[0]?.reason ?? '', /app\.db-shm is not a regular file/);
  });

  test('a transaction that is under way is rolled back where the capture is checked, and nowhere else', async () => {
    const database = create('delete');
    database.exec('PRAGMA cache_size = 1; BEGIN');
    for (let i = 0; i < 3000; i++) database.exec(`INSERT INTO users VALUES ('${'y'.repeat(500)}')`);
    const captured = await stack.backup();
    assert.equal(captured.pointInTime, 'cut');
    assert.equal(databasesOf(captured)[0]?.tables[1]?.rows, 100);
    database.exec('COMMIT');
    close();
    await stack.restore();
    assert.deepEqual(await readdir(join(tree, 'sub')), ['app.db', 'app.db-journal']);
    open = new DatabaseSync(path);
    assert.equal(open.prepare('SELECT count(*) AS rows FROM users').get()?.['rows'], 100);
  });
});
