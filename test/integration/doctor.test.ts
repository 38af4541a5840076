import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { parse, stringify } from 'yaml';
import { demoDatabase, type DemoStack } from '../../src/demo/stack.ts';
import { startTestStack } from '../fixtures/postgres-cluster.ts';
import type { Diagnosis } from '../../src/operations/doctor/doctor.ts';
import { openRepository } from '../../src/repository/open.ts';
import { createFileJournal } from '../../src/storage/journal/file-journal.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { replaceKeys } from '../fixtures/cheap-key.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
let root: string;
let demo: DemoStack;
let settings: Record<string, unknown> & { components: Record<string, Record<string, unknown>> };

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-doctor-'));
  demo = await startTestStack(root, ctx);
  await createDatabase(demo.postgres);
  assert.equal((await run(['init'])).exitCode, 0);
  const key = (await readFile(join(root, 'tars-recovery.key'), 'utf8')).trim();
  await replaceKeys(await openRepository(createLocalStorage(demo.repositoryPath), key, ctx), key, ctx);
  settings = parse(await readFile(demo.settingsPath, 'utf8')) as typeof settings;
});
after(async () => {
  await demo[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

async function createDatabase({ host, port, user, password }: DemoStack['postgres']): Promise<void> {
  const client = new pg.Client({ host, port, user, password, database: 'postgres' });
  await client.connect();
  await client.query(`CREATE DATABASE ${demoDatabase}`);
  await client.end();
}

const run = (args: readonly string[], config = demo.settingsPath): Promise<CliRun> =>
  tars(['--config', config, ...args]);

interface Examination {
  readonly exitCode: number | undefined;
  readonly diagnoses: readonly Diagnosis[];
  /** What was found of one check: state and text. */
  of(check: string): string;
}

async function examine(change: Record<string, unknown> = {}): Promise<Examination> {
  const path = join(root, 'examined.yaml');
  await writeFile(path, stringify({ ...settings, ...change }), { mode: 0o600 });
  const { exitCode, stdout, stderr } = await run(['doctor', '--json'], path);
  assert.ok(stdout, stderr);
  const { diagnoses, healthy } = JSON.parse(stdout) as { diagnoses: Diagnosis[]; healthy: boolean };
  assert.equal(exitCode, healthy ? 0 : 1, stderr);
  return {
    exitCode,
    diagnoses,
    of: (wanted) =>
      diagnoses
        .filter(({ check }) => check === wanted)
        .map(({ state, found }) => `${state}: ${found}`)
        .join('\n'),
  };
}

/** Every file of the repository and of the state with its size and time of change. */
async function traces(): Promise<readonly string[]> {
  const names = await readdir(root, { recursive: true });
  const ours = names.filter((name) => /^(repository|state|ollama|tars-)/.test(name));
  return Promise.all(
    ours.map(async (name) => {
      const { size, mtimeMs, ctimeMs } = await stat(join(root, name));
      return [name, size, mtimeMs, ctimeMs].join(' ');
    }),
  );
}

test('a sound stack: no error, each store with its version, and nothing is changed', async () => {
  assert.equal((await run(['backup'])).exitCode, 0);
  const envFile = demo.configFile;
  await chmod(envFile, 0o644);
  const unchanged = await traces();
  const found = await examine({
    schedule: { backup: '30 2 * * *' },
    retention: { keep_daily: 7 },
  });
  assert.deepEqual(await traces(), unchanged);
  assert.equal(found.exitCode, 0, JSON.stringify(found.diagnoses, null, 2));
  assert.match(found.of('store postgres'), /^ok: 1\d(\.\d+)?.*database/);
  assert.match(found.of('store redis'), /^ok: [Rr]edis \d/);
  assert.match(found.of('store chroma'), /^ok: .*collections?/);
  assert.match(found.of('cut'), /^ok: backend/m);
  assert.match(found.of('restore'), /^ok: The snapshot of .* could be restored here: .*postgres.*redis/);
  assert.match(found.of('last snapshot'), /^ok: Snapshot [0-9a-f]{8} .* is complete$/);
  assert.match(found.of('rights'), /^ok: /);
  assert.ok(found.of('secrets').startsWith(`warning: Every user of this machine can read ${envFile},`));
  assert.match(found.of('retention'), /^ok: /);
  assert.match(found.of('schedule'), /^warning: Nothing on this machine starts .*: backup$/m);
  assert.match(found.of('recovery key'), /^warning: .* never exported/);
  assert.match(found.of('disks'), /^warning: .* same file system/);
  for (const { state, hint, found: text } of found.diagnoses)
    assert.ok(state !== 'error' && (state === 'ok' || hint !== undefined || text !== ''), text);
});

test('whatever is wrong is said at once, and hides nothing of the rest', async () => {
  const { postgres, redis, chroma, ollama, config } = settings.components;
  const elsewhere = join(root, 'empty-mount');
  await mkdir(elsewhere, { recursive: true });
  await chmod(join(root, 'postgres-password'), 0o644);
  const journal = join(root, 'other-state', 'restores');
  await createFileJournal(journal).write({
    ...{ restoreId: 'abc', stack: 'tars-demo', snapshot: 'f'.repeat(64), startedAt: '2026-11-24T01:00:00Z' },
    ...{ components: ['redis'], phase: 'swapping', stopped: [], offline: [], records: [] },
  });
  const entry = join(journal, 'restore-abc.json');
  const live = await readFile(entry, 'utf8');
  await writeFile(entry, live.replace(/"processStart": "\d+"/, '"processStart": "1"'));
  const found = await examine({
    state_dir: 'other-state',
    secrets: 'redact-only',
    scratch_dir: demo.configFile,
    services: {},
    schedule: { forget: '0 4 * * 0' },
    components: {
      postgres: { ...postgres, service: undefined, client_bin_dir: elsewhere },
      redis: { ...redis, service: undefined, port: 1 },
      second: { kind: 'redis', password_file: 'nowhere' },
      chroma: { ...chroma, service: undefined, path: elsewhere },
      ollama: { ...ollama, service: undefined },
      config: { ...config, files: [join(root, 'gone.env')] },
      trees: { kind: 'files', paths: [join(root, 'gone')] },
    },
  });
  assert.equal(found.exitCode, 1);
  const expected: [string, RegExp][] = [
    ['configuration', /^ok: /],
    ['secrets', /^warning: Every user .*postgres-password/],
    ['true copies', /^warning: Secrets in configuration files are not kept/],
    ['schedule', /^warning: .*schedules no backups/],
    ['retention', /^error: schedule.forget has no rules/],
    ['repository', /^ok: /],
    ['rights', /^error: .*gone\.env does not exist, and the backup of config needs it$/m],
    ['rights', /^error: .*tars-home\.env cannot be written to|not there/m],
    ['store redis', /^error: .*does not answer/],
    ['store second', /^error: The secret file .*nowhere does not exist/],
    ['store chroma', /^error: .*chroma\.sqlite3/],
    ['store ollama', /^ok: /],
    ['store trees', /^error: /],
    ['recovery key', /^warning: /],
    ['cut', /^warning: No service is marked as a writer/],
    ['unfinished restore', /^error: Restore abc .* was interrupted/],
  ];
  for (const [check, wanted] of expected) assert.match(found.of(check), wanted, check);
  for (const { state, hint, check } of found.diagnoses)
    if (state === 'error') assert.ok(hint, `${check} has a hint`);
  await chmod(join(root, 'postgres-password'), 0o600);
});

test('a store that is down is one error, not two; a repository that does not open hides no store', async () => {
  await demo.postgres.stop();
  const down = await examine();
  assert.match(down.of('store postgres'), /^error: /);
  assert.match(down.of('restore'), /^warning: postgres: it is unknown whether it could be restored\nok: /);
  await rename(demo.repositoryPath, `${demo.repositoryPath}-away`);
  const gone = await examine();
  assert.match(gone.of('repository'), /^error: There is no repository at/);
  assert.equal(gone.of('last snapshot') + gone.of('space') + gone.of('locks') + gone.of('restore'), '');
  assert.match(gone.of('store redis'), /^ok: /);
  await rename(`${demo.repositoryPath}-away`, demo.repositoryPath);
  await writeFile(join(root, 'wrong'), 'another password\n', { mode: 0o600 });
  const repository = { path: demo.repositoryPath, password_file: 'wrong' };
  assert.match((await examine({ repository })).of('repository'), /^error: No key .* opens/);
});

test('a tars.yaml that cannot be read is the one thing said, in words and with exit code 1', async () => {
  const path = join(root, 'broken.yaml');
  await writeFile(path, 'version: 1\nstack: x\nrepository: { path: r }\ncomponets: {}\n');
  const { exitCode, stdout } = await run(['doctor'], path);
  assert.equal(exitCode, 1);
  assert.match(
    stdout,
    /^ERROR +configuration +\S+broken\.yaml is not valid:\n +line 4: componets is not a key/m,
  );
  assert.match(stdout, /1 error, no warning: a backup or a restore would fail$/);
});
