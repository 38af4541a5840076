/**
 * What every release wrote is read, restored and verified by this version, as scripts/release-fixtures.ts kept it. One
 * set of private servers serves all of it.
 */
import { identityToRecipient } from 'age-encryption';
import { execa } from 'execa';
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  archiveDestination,
  archiveShelf,
  checkArchiveFile,
  lastKitExport,
  runLogOf,
} from '../../src/composition/index.ts';
import { manifestSchemaVersion, type Manifest } from '../../src/model/manifest.ts';
import type { Finding } from '../../src/model/finding.ts';
import type { StackStatus } from '../../src/operations/schedule/status.ts';
import type { SnapshotDestination } from '../../src/ports/snapshot-store.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { loadSettings } from '../../src/composition/settings.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { label, manifestOf } from '../fixtures/archives.ts';
import { cheapenKey } from '../fixtures/cheap-key.ts';
import { testContext } from '../fixtures/context.ts';
import {
  assertContent,
  releaseDatabase,
  releasePassword,
  releaseRoot,
  releasesDirectory,
  startReleaseStack,
  understoodSettings,
  type Content,
  type CutOff,
  type ReleaseRecord,
  type ReleaseStack,
  type Side,
  type Variant,
} from '../fixtures/release-stack.ts';
import { stockRestics } from '../fixtures/restic.ts';

const ctx = testContext();
const versions = readdirSync(releasesDirectory).sort();
const inRoot = (path: string): string => join(releaseRoot, path);
const repositoryPath = inRoot('repository');

let stack: ReleaseStack;
before(async () => {
  const [first = ''] = versions;
  const identity = await readFile(join(releasesDirectory, first, 'age-identity'), 'utf8');
  stack = await startReleaseStack(await identityToRecipient(identity.trim()));
});
after(() => stack[Symbol.asyncDispose]());

/** Runs `tars`, which has to end well, and returns what it says to programs. */
async function result<Value>(variant: Variant, ...args: readonly string[]): Promise<Value> {
  const { exitCode, stdout, stderr } = await stack.run(variant, ...args, '--json');
  assert.equal(exitCode, 0, `tars ${args.join(' ')}: ${stderr}`);
  return JSON.parse(stdout) as Value;
}

async function unpack(file: string): Promise<void> {
  await execa('tar', ['-xzpf', file, '-C', releaseRoot]);
}

interface Restored {
  readonly restored: readonly string[];
  readonly validated: boolean;
  readonly findings: readonly Finding[];
}

/** Restores over whatever is there; `tars` compares what it restored with the snapshot, and says what differs. */
async function restore(variant: Variant, ...from: readonly string[]): Promise<Restored> {
  const options = ['--yes', '--restore-config', '--discard-previous'];
  const restored = await result<Restored>(variant, 'restore', ...from, ...options);
  assert.equal(restored.validated, true);
  assert.deepEqual(
    restored.findings.filter(({ severity }) => severity !== 'info'),
    [],
    from.join(' '),
  );
  return restored;
}

for (const version of versions) {
  const directory = join(releasesDirectory, version);
  const kept = (name: string): string => join(directory, name);

  test(`what tars ${version} wrote`, async (t) => {
    const record = JSON.parse(await readFile(kept('record.json'), 'utf8')) as ReleaseRecord;
    assert.equal(record.version, version);
    for (const name of ['repository', 'state', 'age-identity', 'key'])
      await rm(inRoot(name), { recursive: true, force: true });
    for (const name of ['age-identity', 'key'])
      await writeFile(inRoot(name), await readFile(kept(name)), { mode: 0o600 });
    await unpack(kept('repository.tar.gz'));
    await unpack(kept('state.tar.gz'));
    await continueItsHost();
    // Its own key has opened it; what follows opens it some forty times.
    await cheapenKey(repositoryPath, releasePassword);

    await t.test('each tars.yaml means what it meant', () => readsSettings(kept('settings')));
    await t.test('the state directory is read', readsState);
    await t.test('the repository is read and sound', () => readsRepository(record));
    await t.test('snapshots and archives come back equal, one over the other', () =>
      restoresAll(record, kept),
    );
    for (const cutOff of record.cutOffs) {
      await t.test(`a restore that was interrupted while ${cutOff.phase} is put right`, () =>
        recovers(cutOff, kept(cutOff.file), record),
      );
    }
  });
}

/** The machine that made the fixtures had another name than this one. */
async function continueItsHost(): Promise<void> {
  const [first] = await result<{ hostname: string }[]>('main', 'snapshots');
  for (const variant of ['main', 'other'] as const) {
    const path = stack.settingsPath(variant);
    const text = (await readFile(path, 'utf8')).replace(/^host: .*\n/m, '');
    await writeFile(path, `${text.trimEnd()}\nhost: ${first?.hostname ?? ''}\n`, { mode: 0o600 });
  }
}

/** A service of which tars.yaml does not tell whether it writes was one that does not; by now it is looked at. */
function withDefaultWriters(understood: unknown): unknown {
  const { services = {} } = understood as { services?: Record<string, object> };
  const filled = Object.entries(services).map(([name, service]) => [name, { writer: false, ...service }]);
  return { ...(understood as object), services: Object.fromEntries(filled) as unknown };
}

/** Fields may have been added since. */
async function readsSettings(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.yaml'));
  assert.ok(names.length > 0);
  for (const name of names) {
    const understood = understoodSettings(await readFile(join(directory, name), 'utf8'));
    const then: unknown = JSON.parse(await readFile(join(directory, name.replace(/yaml$/, 'json')), 'utf8'));
    assert.partialDeepStrictEqual(withDefaultWriters(understood), then, name);
  }
}

/** The last run was a check that went well, after a backup that was killed. */
async function readsState(): Promise<void> {
  const { exitCode, stdout, stderr } = await stack.run('main', 'status', '--json');
  const { last, failures, reasons } = JSON.parse(stdout) as StackStatus;
  assert.equal(exitCode, 1, stderr);
  assert.deepEqual(reasons, ['The last backup was killed']);
  assert.deepEqual(
    failures.map(({ verb, state }) => [verb, state]),
    [['backup', 'killed']],
  );
  assert.deepEqual(Object.keys(last).sort(), ['backup', 'check', 'prune']);
  assert.match(last.backup?.end?.snapshot ?? '', /^[0-9a-f]{64}$/);
  const settings = await loadSettings(stack.settingsPath('main'), {});
  const runs = runLogOf(settings).runs();
  assert.ok(runs.some(({ verb, end }) => verb === 'backup' && end?.outcome === 'partial'));
  assert.ok(runs.some(({ verb, end }) => verb === 'forget' && end?.retention !== undefined));
  await using store = await openSnapshotStore(createLocalStorage(repositoryPath), releasePassword, ctx);
  assert.ok(await lastKitExport(settings.state_dir, store.id), 'the recovery kit was exported');
}

async function readsRepository({ snapshots, version }: ReleaseRecord): Promise<void> {
  const listed = await result<{ id: string; program: string; tags: string[] }[]>('main', 'snapshots');
  assert.deepEqual(
    listed.map(({ id, program, tags }) => ({ id, program, partial: tags.includes('partial') })),
    snapshots.map(({ id, failed }) => ({ id, program: `tars ${version}`, partial: failed.length > 0 })),
  );
  await Promise.all(
    snapshots.map(async ({ id, failed }) => {
      const { manifest } = await result<{ manifest: Manifest }>('main', 'show', id.slice(0, 8));
      assert.equal(manifest.toolVersion, version);
      assert.deepEqual(
        manifest.components.filter(({ outcome }) => outcome === 'failed').map(({ name }) => name),
        failed,
      );
    }),
  );
  await soundRepository(snapshots.length);
}

/** Every byte, for tars and for stock restic. */
async function soundRepository(snapshots: number): Promise<void> {
  const checked = await result<{ findings: Finding[]; snapshots: number }>('main', 'check', '--read-data');
  assert.deepEqual(checked.findings, []);
  assert.equal(checked.snapshots, snapshots);
  for (const { path } of stockRestics) {
    await execa(path, ['--repo', repositoryPath, '--no-cache', 'check', '--read-data'], {
      env: { RESTIC_PASSWORD: releasePassword },
    });
  }
}

/** Each is restored over the other generation, the first into empty stores. */
async function restoresAll(record: ReleaseRecord, kept: (name: string) => string): Promise<void> {
  const { snapshots, archives, content } = record;
  let added: string | undefined;
  const partial = snapshots.filter(({ failed }) => failed.length > 0);
  for (const { id, side, variant } of wholeSnapshots(record)) {
    await restore(variant, id);
    assertContent(await stack.content(), content[side], `snapshot ${id}`);
    await keepDatabase(side);
    if (side === 'a') added = await addSnapshot();
  }
  assert.ok(added);
  await restore('main', added);
  assertContent(await stack.content(), content.a, 'the backup of this version');
  for (const { id, side, variant, failed } of partial) {
    const { restored } = await restore(variant, id);
    assert.deepEqual(
      [...restored, ...failed].sort(),
      Object.keys(content[side]).sort(),
      'all but what failed is restored',
    );
    const left = Object.fromEntries(failed.map((name) => [name, content.a[name]]));
    assertContent(await stack.content(), { ...content[side], ...left }, `snapshot ${id}`);
  }
  for (const { file, side, variant } of archives) await restoreArchive(kept(file), variant, content[side]);
  await soundRepository(snapshots.length + 1);
}

const wholeSnapshots = ({ snapshots }: ReleaseRecord): ReleaseRecord['snapshots'] =>
  snapshots.filter(({ failed }) => failed.length === 0);

/** A backup of this version on top of the older ones stores hardly anything twice. Returns its id. */
async function addSnapshot(): Promise<string> {
  const { snapshot, addedBytes } = await result<{ snapshot: string; addedBytes: number }>('main', 'backup');
  // Models and files that no compression makes smaller take as much.
  assert.ok(addedBytes < 60_000, `${addedBytes} bytes were added`);
  return snapshot;
}

/** Only what is sealed for an age recipient holds the true configuration; otherwise it is written beside, redacted. */
async function restoreArchive(archive: string, variant: Variant, expected: Content): Promise<void> {
  assert.deepEqual(await checkArchiveFile(archive, inRoot('scratch'), ctx), []);
  const { config } = await stack.content();
  await restore(variant, '--backup-file', archive);
  const content = await stack.content();
  const redacted = (await readdir(inRoot('config'))).filter((name) => name.includes('.redacted-'));
  if (variant === 'other') assertContent(content, expected, archive);
  else {
    assertContent(content, { ...expected, config }, archive);
    assert.equal(redacted.length, 2, 'both files have a redacted view');
    for (const name of redacted) {
      const text = await readFile(inRoot(`config/${name}`), 'utf8');
      assert.match(text, /LOG_LEVEL=info|image: app:1/);
      assert.doesNotMatch(text, /quiet-harbour/);
    }
  }
}

const copyOf = (side: Side): string => `kept_${side}`;

/** A copy of the restored database, out of the way of tars. */
async function keepDatabase(side: Side): Promise<void> {
  await stack.query('postgres', `DROP DATABASE IF EXISTS ${copyOf(side)}`);
  await stack.query('postgres', `CREATE DATABASE ${copyOf(side)} TEMPLATE ${releaseDatabase} OWNER home_app`);
}

async function recovers(cutOff: CutOff, file: string, record: ReleaseRecord): Promise<void> {
  await Promise.all([stack.redis.stop(), stack.chroma.stop()]);
  for (const path of ['redis/data', 'chroma/data', 'ollama', 'uploads', 'config', 'state/restores'])
    await rm(inRoot(path), { recursive: true, force: true });
  await unpack(file);
  await recreateDatabases(cutOff);
  const { leads, restoreId } = cutOff;
  const leading = wholeSnapshots(record).find(({ side }) => side === leads);
  assert.ok(leading);
  const verified = await stack.run('main', 'verify', leading.id);
  assert.match(verified.stderr, new RegExp(`Restore ${restoreId} of snapshot \\w+ was interrupted`));
  assert.equal(verified.exitCode, 0, verified.stderr);
  assertContent(await stack.content(), record.content[leads], `cut off while ${cutOff.phase}`);
  const again = await stack.run('main', 'snapshots');
  assert.doesNotMatch(again.stderr, /was interrupted|WARN/);
}

/** As they were when the restore was killed, but for their OIDs, which are put into its record. */
async function recreateDatabases({ databases, restoreId }: CutOff): Promise<void> {
  const oids = new Map<number, number>();
  for (const { name, oid, side } of databases) {
    await stack.query('postgres', `DROP DATABASE IF EXISTS ${name}`);
    await stack.query('postgres', `CREATE DATABASE ${name} TEMPLATE ${copyOf(side)} OWNER home_app`);
    const [created] = await stack.query<{ oid: number }>(
      'postgres',
      `SELECT oid FROM pg_database WHERE datname = '${name}'`,
    );
    assert.ok(created);
    oids.set(oid, created.oid);
  }
  const path = inRoot(`state/restores/restore-${restoreId}.json`);
  const text = await readFile(path, 'utf8');
  const renumbered = JSON.stringify(
    JSON.parse(text, (_key, value: unknown) =>
      typeof value === 'number' ? (oids.get(value) ?? value) : value,
    ),
  );
  assert.notEqual(renumbered, JSON.stringify(JSON.parse(text)));
  await writeFile(path, renumbered, { mode: 0o600 });
}

/**
 * Of what versions are told by, the manifest is the one of tars itself: src/model/manifest.test.ts has its reader. A
 * snapshot that this build could not read back is not published, in a repository or as an archive.
 */
test('a manifest of a later version is not published', async () => {
  const later: Manifest = { ...manifestOf([]), stack: 'home', schemaVersion: manifestSchemaVersion + 1 };
  const publish = async (destination: SnapshotDestination): Promise<void> => {
    await using writer = await destination.begin({ ...label, stack: 'home' }, ctx);
    await writer.publish(later, ctx);
  };
  const settings = await loadSettings(stack.settingsPath('main'), {});
  await using store = await openSnapshotStore(createLocalStorage(repositoryPath), releasePassword, ctx);
  const before = await store.list(ctx);
  await assert.rejects(publish(store), /schema version \d+, this tars reads up to \d+/);
  assert.deepEqual(await store.list(ctx), before);
  const directory = inRoot('later');
  await mkdir(directory);
  const archives = archiveDestination(directory, 'gzip', settings);
  await assert.rejects(publish(archives), /cannot be read back, so it is not published/);
  assert.deepEqual(await archiveShelf(directory).list(ctx), []);
});
