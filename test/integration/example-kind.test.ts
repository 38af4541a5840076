import { Ajv } from 'ajv';
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, test } from 'node:test';
import { parse } from 'yaml';
import { examineSettings } from '../../src/cli/wiring/examination.ts';
import { kinds } from '../../src/components/registry.ts';
import {
  composeStack,
  createStore,
  openStore,
  proposeStores,
  recoveryOf,
} from '../../src/composition/index.ts';
import { countAmounts } from '../../src/composition/kinds.ts';
import { parseSettings, settingsJsonSchema } from '../../src/composition/settings.ts';
import { backup } from '../../src/operations/backup/backup.ts';
import { recoverySteps } from '../../src/operations/recovery-kit/recovery-kit.ts';
import { planRestore } from '../../src/operations/restore/plan.ts';
import { executeRestore } from '../../src/operations/restore/restore.ts';
import { verifyStack } from '../../src/operations/verify/verify.ts';
import type { Kinds } from '../../src/ports/kind.ts';
import type { Settings } from '../../src/settings/load.ts';
import { noCare } from '../../src/settings/template-sections.ts';
import { settingsTemplate } from '../../src/settings/template.ts';
import { cheapenKey } from '../fixtures/cheap-key.ts';
import { testContext } from '../fixtures/context.ts';
import { sqliteKind } from '../fixtures/example-kind/kind.ts';

const known: Kinds = [...kinds, sqliteKind];
const password = 'a password for these tests';
const env = { TARS_PASSWORD: password };
const ctx = testContext();

const root = await mkdtemp(join(tmpdir(), 'tars-example-kind-'));
after(() => rm(root, { recursive: true, force: true }));
const file = join(root, 'notes.db');

function write(...notes: string[]): void {
  using database = new DatabaseSync(file);
  database.exec('CREATE TABLE IF NOT EXISTS notes (text TEXT)');
  for (const note of notes) database.prepare('INSERT INTO notes VALUES (?)').run(note);
}

function read(): unknown[] {
  using database = new DatabaseSync(file, { readOnly: true });
  return database
    .prepare('SELECT text FROM notes')
    .all()
    .map(({ text }) => text);
}

const nothing = (): Promise<boolean> => Promise.resolve(false);

/** As `tars init` would write it where it finds the file. */
async function written(): Promise<string> {
  return settingsTemplate({
    ...{ stack: 'example', host: 'box', care: noCare },
    ...{ repositoryPath: join(root, 'repository'), passwordFile: join(root, 'key') },
    proposals: await proposeStores({ HOME: root }, nothing, known),
  }).replace('# scratch_dir: /var/tmp', `scratch_dir: ${root}/scratch\nstate_dir: ${root}/state`);
}

async function settings(): Promise<Settings> {
  return parseSettings(await written(), join(root, 'tars.yaml'), {}, known);
}

test('init writes it, the schema and the loader take it, and tars without it names what it knows', async () => {
  write('one');
  const text = await written();
  assert.match(text, /^ {2}sqlite:\n {4}path: ".*notes\.db"$/m);
  const accepts = new Ajv().compile(settingsJsonSchema(known));
  assert.ok(accepts(parse(text)), JSON.stringify(accepts.errors));
  const { sqlite } = (await settings()).components;
  assert.deepEqual(sqlite?.settings, { kind: 'sqlite', path: file });
  assert.deepEqual(
    sqlite.places.paths.map(({ path }) => path),
    [file],
  );
  const relative = text.replace(/path: ".*notes\.db"/, 'path: notes.db');
  const resolved = parseSettings(relative, join(root, 'tars.yaml'), {}, known);
  assert.deepEqual(resolved.components['sqlite']?.settings, { kind: 'sqlite', path: file });
  const wrong = text.replace(/path: ".*notes\.db"/, 'pfad: notes.db');
  assert.throws(() => parseSettings(wrong, '/etc/tars.yaml', {}, known), /sqlite\.pfad is not a key/);
  // A name that says no kind needs one, of those that are known.
  assert.throws(() => parseSettings(text, '/etc/tars.yaml', {}), /redis, chroma, ollama, config, files$/m);
});

test('what was lost comes back, proven equal; the kit and doctor name it', async () => {
  write('two', 'three');
  const before = read();
  for (const folder of ['scratch', 'state']) await mkdir(join(root, folder), { recursive: true });
  await writeFile(join(root, 'tars.yaml'), await written(), { mode: 0o600 });
  const configured = await settings();
  await createStore(configured.repository.path, password, ctx);
  await cheapenKey(configured.repository.path, password);
  const stack = await composeStack(configured, { includeModels: false }, env);
  await using store = await openStore(configured, env, ctx);
  const target = { ...stack, stack: stack.name };

  const { manifest, snapshot } = await backup({ ...target, toolVersion: '0', notCaptured: [] }, store, ctx);
  const [captured] = manifest.components;
  assert.equal(manifest.outcome, 'complete');
  assert.deepEqual(captured?.facts, { rows: before.length, tables: 1 });
  assert.deepEqual(sqliteKind.counts(captured), [['rows', before.length]]);
  assert.deepEqual(countAmounts(captured), [], 'a kind that is not known counts nothing');

  await using source = await store.open(snapshot.summary.id, undefined, ctx);
  const findings = async (): Promise<string[]> =>
    (await verifyStack(source, stack.components, ctx)).findings.map(({ message }) => message);
  assert.deepEqual(await findings(), []);
  write('four');
  assert.deepEqual(await findings(), [
    `it has ${before.length + 1} rows, and ${before.length} in the snapshot`,
  ]);
  await rm(file);

  const selection = {
    ...{ restoreConfig: false, restoreId: '1a2b3c4d' },
    only: undefined,
    skip: [],
    startServices: false,
  };
  const plan = await planRestore(source, target, selection, ctx);
  const execution = { discardPrevious: false, skipValidation: false };
  const restored = await executeRestore(plan, source, target, stack.journal, execution, ctx);
  assert.deepEqual(restored.restored, ['sqlite']);
  assert.deepEqual(read(), before);
  assert.deepEqual(await findings(), []);

  const facts = {
    stack: 'example',
    hostname: 'box',
    repository: '/r',
    repositoryId: 'id',
    keyCheck: 'k',
    starts: [],
  };
  const titles = recoverySteps({
    ...{ ...facts, manifest },
    recoveryOf: (component) => recoveryOf(component, configured.components, {}, known),
  }).map(({ title, commands }) => [title, commands]);
  assert.deepEqual(
    titles.filter(([title]) => title === 'SQLite (sqlite)'),
    [['SQLite (sqlite)', [`cp -p sqlite/database.sqlite ${file}`]]],
  );
  const diagnoses = await examineSettings(configured, env, ctx);
  assert.deepEqual(
    diagnoses.filter(({ check }) => check === 'store sqlite').map(({ state }) => state),
    ['ok'],
  );
  assert.equal((await readFile(file)).subarray(0, 15).toString(), 'SQLite format 3');
});
