import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createTreesComponent } from '../../src/components/files/index.ts';
import type { TreesFacts } from '../../src/components/files/facts.ts';
import type { ComponentManifest, Manifest } from '../../src/model/manifest.ts';
import { backup } from '../../src/operations/backup/backup.ts';
import type { Component } from '../../src/ports/component.ts';
import { createGuardian } from '../../src/runtimes/guardian/index.ts';
import { createProcessRuntime } from '../../src/runtimes/process/index.ts';
import { collect, label, never } from '../fixtures/archives.ts';
import { counted } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { RepositoryDirectory } from '../fixtures/repositories.ts';
import { sqliteState, startSqliteService, type SqliteState } from '../fixtures/sqlite-service.ts';

const ctx = testContext();
const rows = 1500;
const captures = counted(3, 25);
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
