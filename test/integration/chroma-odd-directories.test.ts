import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, mkdir, readFile, rename, symlink, truncate, writeFile } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inspectDirectory } from '../../src/components/chroma/direct/inspect.ts';
import { chromaFactsOf, compareFacts, placedCollections } from '../../src/components/chroma/facts.ts';
import { TarsError } from '../../src/model/errors.ts';
import type { Finding } from '../../src/model/finding.ts';
import type { Component } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { loadedChroma, type LoadedChroma } from '../fixtures/chroma-directory.ts';
import { manifestOf } from '../fixtures/chroma-http.ts';
import { chromaAt } from '../fixtures/chroma-component.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
let chroma: LoadedChroma;
/** What the server left when it was stopped. */
let pristine: string;
let copies = 0;

before(async () => {
  chroma = await loadedChroma(150, 77);
  await chroma.server.stop();
  pristine = join(chroma.root, 'pristine');
  await cp(chroma.server.dataDir, pristine, { recursive: true });
});
after(() => chroma[Symbol.asyncDispose]());

async function copyOfPristine(): Promise<string> {
  const copy = join(chroma.root, `odd-${++copies}`, 'data');
  await cp(pristine, copy, { recursive: true });
  return copy;
}

function change(directory: string, ...statements: readonly string[]): void {
  const database = new DatabaseSync(join(directory, 'chroma.sqlite3'), { defensive: false });
  for (const statement of statements) database.exec(statement);
  database.close();
}

const componentAt = (path: string): Component => chromaAt(path, join(chroma.root, 'scratch'));

async function captured(path: string) {
  const directory = join(chroma.root, `artifacts-${++copies}`);
  await using prepared = await componentAt(path).prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  const sink = createDirectorySink(directory, { encrypted: true });
  const report = await prepared.capture(sink, ctx);
  return { report, manifest: manifestOf('chroma', report, sink), directory };
}

const errorsOf = (findings: readonly Finding[]): readonly string[] =>
  findings.filter(({ severity }) => severity === 'error').map(({ message }) => message);

test('a directory of early 0.4, whose tables have no column for booleans, is read', async () => {
  const copy = await copyOfPristine();
  change(copy, 'DELETE FROM embedding_metadata WHERE bool_value IS NOT NULL');
  const expected = await inspectDirectory(copy, 'chroma', ctx.signal);
  change(
    copy,
    ...['embedding_metadata', 'collection_metadata', 'segment_metadata'].map(
      (table) => `ALTER TABLE ${table} DROP COLUMN bool_value`,
    ),
    'DROP TABLE IF EXISTS embedding_metadata_array',
  );
  const { manifest } = await captured(copy);
  assert.deepEqual(compareFacts('chroma', expected, chromaFactsOf(manifest), 'exact'), []);
  assert.ok([...placedCollections(expected)].every(({ collection }) => collection.recordCount === 150));
});

test('the empty file of a server killed at its first start is captured, planned over and restored', async () => {
  const path = join(chroma.root, 'first-start', 'data');
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'chroma.sqlite3'), '');
  assert.equal((await componentAt(path).probe(ctx)).summary, '0 collections, 0 records');
  const { manifest, directory } = await captured(path);
  assert.deepEqual([...placedCollections(chromaFactsOf(manifest))], []);
  // A server that has not created its tables has no version that a restore could be too new for.
  const whole = await captured(pristine);
  const planned = await componentAt(path).planRestore(
    whole.manifest,
    { restoreConfig: false, restoreId: 'r1' },
    ctx,
    noArtifacts,
  );
  assert.ok(planned.plan.warnings.some((warning) => warning.includes('version of the server is unknown')));
  await assertServes(await restoredOver(path, manifest, directory));
});

async function restoredOver(
  path: string,
  manifest: Awaited<ReturnType<typeof captured>>['manifest'],
  directory: string,
): Promise<string> {
  const component = componentAt(path);
  const planned = await component.planRestore(
    manifest,
    { restoreConfig: false, restoreId: `r${++copies}` },
    ctx,
    noArtifacts,
  );
  const staged = await planned.stage(createDirectorySource(directory), ctx);
  assert.deepEqual(errorsOf(await staged.verify(ctx)), []);
  await staged.swap(ctx);
  return path;
}

/** A real server starts on it and answers. */
async function assertServes(path: string): Promise<void> {
  await cp(path, chroma.server.dataDir, { recursive: true, force: true });
  await chroma.server.start();
  await chroma.server.stop();
}

/** Ends a writer in the middle of a transaction that has reached the file. */
function killWriter(directory: string): void {
  const script = `const { DatabaseSync } = require('node:sqlite');
    const database = new DatabaseSync(${JSON.stringify(join(directory, 'chroma.sqlite3'))});
    database.exec('PRAGMA cache_size = 2; PRAGMA cache_spill = 1; BEGIN IMMEDIATE');
    database.exec("UPDATE embedding_metadata SET string_value = string_value || 'torn'");
    database.exec('DELETE FROM embeddings_queue');
    process.kill(process.pid, 'SIGKILL');`;
  const { signal } = spawnSync(process.execPath, ['--no-warnings', '-e', script]);
  assert.equal(signal, 'SIGKILL');
}

test('where a server was killed in the middle of a write, the plan says so, writes nothing and agrees with the backup', async () => {
  const copy = await copyOfPristine();
  const expected = await inspectDirectory(copy, 'chroma', ctx.signal);
  killWriter(copy);
  const files = ['chroma.sqlite3', 'chroma.sqlite3-journal'].map((name) => join(copy, name));
  const before_ = await Promise.all(files.map((file) => readFile(file)));
  assert.ok(before_[1]!.length > 0);
  const probe = await componentAt(copy).probe(ctx);
  assert.equal(probe.summary, '3 collections, 450 records');
  assert.match(probe.warnings.join(), /^chroma: Chroma was killed while it wrote/);
  const { manifest: whole } = await captured(pristine);
  const planned = await componentAt(copy).planRestore(
    whole,
    { restoreConfig: false, restoreId: 'r2' },
    ctx,
    noArtifacts,
  );
  assert.deepEqual(
    planned.plan.warnings.filter((warning) => warning.includes('version')),
    [],
  );
  assert.deepEqual(await Promise.all(files.map((file) => readFile(file))), before_);
  const { manifest } = await captured(copy);
  assert.deepEqual(compareFacts('chroma', expected, chromaFactsOf(manifest), 'exact'), []);
});

test('damage of the full-text index does not refuse the directory, however SQLite words it', async () => {
  const table = 'embedding_fulltext_search';
  const damages = [
    `DELETE FROM ${table}_docsize`,
    `UPDATE ${table}_data SET block = x'00' WHERE id > 10`,
    `UPDATE ${table}_data SET block = x'ffffffff00' WHERE id = 10`,
    `DELETE FROM ${table}_config`,
    `UPDATE ${table}_config SET v = 99`,
  ];
  const wordings = new Set<string>();
  for (const damage of damages) {
    const copy = await copyOfPristine();
    change(copy, damage);
    const { problems } = await inspectDirectory(copy, 'chroma', ctx.signal);
    assert.deepEqual(
      problems.map(({ severity, code }) => [severity, code]),
      [['warning', 'fulltext-index-odd']],
      damage,
    );
    wordings.add(problems[0]!.message.replace(/\d+/g, ''));
  }
  assert.ok(wordings.size >= 4, [...wordings].join('\n'));
  const torn = await copyOfPristine();
  change(torn, `DELETE FROM ${table}_config`);
  const { page_size: pageBytes } = rowOf(torn, 'PRAGMA page_size');
  const { rootpage } = rowOf(torn, "SELECT rootpage FROM sqlite_master WHERE name = 'collection_metadata'");
  const path = join(torn, 'chroma.sqlite3');
  const bytes = await readFile(path);
  bytes.fill(0x5a, (Number(rootpage) - 1) * Number(pageBytes), Number(rootpage) * Number(pageBytes));
  await writeFile(path, bytes);
  const noticed = await inspectDirectory(torn, 'chroma', ctx.signal).then(
    ({ problems }) => errorsOf(problems),
    (error: unknown) => [String(error)],
  );
  assert.ok(noticed.length > 0);
});

function rowOf(directory: string, sql: string): Record<string, unknown> {
  const database = new DatabaseSync(join(directory, 'chroma.sqlite3'), { readOnly: true });
  const row = database.prepare(sql).get()!;
  database.close();
  return row;
}

test('a collection that is searched by another distance is not as captured', async () => {
  const copy = await copyOfPristine();
  const { manifest } = await captured(copy);
  change(
    copy,
    `UPDATE collections SET config_json_str = replace(config_json_str, '"space":"l2"', '"space":"ip"')`,
  );
  const findings = await componentAt(copy).verify(manifest, ctx, noArtifacts);
  assert.deepEqual(
    findings.map(({ severity, code, subject }) => `${severity} ${code} ${subject.replace(/.*-/, '')}`),
    ['error distance-differs l2'],
  );
});

test('what deleted collections left in the tables is not counted', async () => {
  const copy = await copyOfPristine();
  change(
    copy,
    `INSERT INTO embeddings (segment_id, embedding_id, seq_id) SELECT 'gone', embedding_id, seq_id FROM embeddings`,
  );
  assert.equal((await componentAt(copy).probe(ctx)).summary, '3 collections, 450 records');
});

test('a file that is no database is called that, by the plan and by the backup, and no rights are asked for', async () => {
  const copy = await copyOfPristine();
  await writeFile(join(copy, 'chroma.sqlite3'), 'PK\u0003\u0004 something else entirely'.repeat(50));
  const isSaid = (error: unknown): boolean =>
    error instanceof TarsError &&
    /is not a SQLite database$/.test(error.message) &&
    !/root/.test(error.hint ?? 'root');
  await assert.rejects(componentAt(copy).probe(ctx), isSaid);
  await assert.rejects(componentAt(copy).prepare(ctx), isSaid);
});

test('a damaged collection costs itself: it is named, the rest is captured and restored', async () => {
  const copy = await copyOfPristine();
  const { id } = rowOf(
    copy,
    `SELECT s.id FROM segments s JOIN collections c ON c.id = s.collection
     WHERE c.name = 'load-ip' AND s.scope = 'VECTOR'`,
  );
  await truncate(join(copy, String(id), 'link_lists.bin'), 10);
  const { report, manifest, directory } = await captured(copy);
  assert.deepEqual(
    report.incomplete?.named.map(({ path }) => path),
    ['chroma/default_tenant/default_database/load-ip'],
  );
  assert.match(report.incomplete.named[0]!.reason, /link_lists\.bin ends early/);
  assert.deepEqual(
    [...placedCollections(chromaFactsOf(manifest))].map(({ collection }) => collection.name),
    ['load-cosine', 'load-l2'],
  );
  assert.deepEqual(errorsOf(await componentAt(copy).verify(manifest, ctx, noArtifacts)), []);
  await restoredOver(copy, manifest, directory);
});

test('where every collection is damaged nothing is captured, and what a second look finds unchanged is not looked at again', async () => {
  const copy = await copyOfPristine();
  const database = new DatabaseSync(join(copy, 'chroma.sqlite3'), { readOnly: true });
  const segments = database.prepare("SELECT id FROM segments WHERE scope = 'VECTOR'").all();
  database.close();
  for (const { id } of segments) await truncate(join(copy, String(id), 'link_lists.bin'), 10).catch(() => 0);
  change(copy, "DELETE FROM collections WHERE name <> 'load-ip'");
  await assert.rejects(
    captured(copy),
    /^TarsError: No complete copy of .* in 2 attempts: .*link_lists\.bin ends early/,
  );
});

test('empty tables beside vector indexes are lost ones, not those of a new server', async () => {
  const copy = await copyOfPristine();
  await truncate(join(copy, 'chroma.sqlite3'), 0);
  const isSaid =
    /chroma\.sqlite3 holds no tables, but the directory has 3 vector indexes: the tables are lost$/;
  await assert.rejects(componentAt(copy).probe(ctx), isSaid);
  await assert.rejects(captured(copy), isSaid);
});

test('what is only linked into the directory is named, as a snapshot would hold the links alone', async () => {
  const vectorsOf = (directory: string, name: string): string =>
    String(
      rowOf(
        directory,
        `SELECT s.id FROM segments s JOIN collections c ON c.id = s.collection
         WHERE c.name = '${name}' AND s.scope = 'VECTOR'`,
      )['id'],
    );
  const copy = await copyOfPristine();
  const linked = async (path: string): Promise<void> => {
    const elsewhere = join(chroma.root, `elsewhere-${++copies}`);
    await rename(join(copy, path), elsewhere);
    await symlink(elsewhere, join(copy, path));
  };
  await linked(vectorsOf(copy, 'load-l2'));
  await linked(join(vectorsOf(copy, 'load-ip'), 'data_level0.bin'));
  const { report } = await captured(copy);
  assert.deepEqual(
    report.incomplete?.named.map(({ path, reason }) => [
      path.split('/').at(-1),
      / is a symbolic link/.test(reason),
    ]),
    [
      ['load-ip', true],
      ['load-l2', true],
    ],
  );
  await linked('chroma.sqlite3');
  await assert.rejects(componentAt(copy).prepare(ctx), /chroma\.sqlite3 is a symbolic link to /);
});
