import assert from 'node:assert/strict';
import { readdir, rename, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import type { Manifest } from '../../src/model/manifest.ts';
import { examine, type Diagnosis } from '../../src/operations/doctor/doctor.ts';
import { repositoryChecks } from '../../src/operations/doctor/repository.ts';
import type { OperationContext } from '../../src/ports/context.ts';
import type { SnapshotStore } from '../../src/ports/snapshot-store.ts';
import { openRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { label, manifestOf, never, seededBytes } from '../fixtures/archives.ts';
import { tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { password, RepositoryDirectory, writeSample } from '../fixtures/repositories.ts';

/** In local time, as schedules are. */
const noon = new Date(2026, 10, 24, 12, 0, 0);
const hourMs = 3_600_000;

let directory: RepositoryDirectory;
let store: SnapshotStore;
before(async () => {
  directory = await RepositoryDirectory.created();
  store = await directory.store();
});
after(() => directory[Symbol.asyncDispose]());

function at(time: Date): OperationContext {
  const ctx = testContext();
  return {
    ...ctx,
    clock: { ...ctx.clock, now: () => time, sleep: (ms, signal) => ctx.clock.sleep(ms, signal) },
  };
}

/** What the checks say at `time`, by check. */
async function examined(
  time: Date,
  more: {
    readonly backupCron?: string;
    readonly stackBytes?: number;
    readonly path?: string;
    readonly kit?: { exportedAt: string; keyId: string };
  } = {},
): Promise<(check: string) => readonly Diagnosis[]> {
  const list = async (ctx: OperationContext) =>
    (await store.list(ctx)).filter(({ stack }) => stack === label.stack);
  const checks = repositoryChecks({
    owner: label,
    path: more.path ?? directory.path,
    backupCron: more.backupCron,
    store: () => Promise.resolve(store),
    snapshots: list,
    async lastManifest(ctx) {
      const last = (await list(ctx)).at(-1);
      if (last === undefined) return undefined;
      await using source = await store.peek(last.id, undefined, ctx);
      return await source.manifest(ctx.signal);
    },
    lastKit: (id) => Promise.resolve(id === store.id ? more.kit : undefined),
    stackBytes: () => Promise.resolve(more.stackBytes ?? 5000),
  });
  const found = await examine(checks, 60_000, at(time));
  return (wanted) => found.filter(({ check }) => check === wanted);
}

const states = (diagnoses: readonly Diagnosis[]): string[] => diagnoses.map(({ state }) => state);

async function publish(time: Date, sizeBytes: number, change: Partial<Manifest> = {}): Promise<number> {
  const ctx = testContext();
  await using writer = await store.begin(label, ctx);
  const content = seededBytes(sizeBytes, sizeBytes);
  const artifact = await writeSample(writer, { path: 'store/a', content, chunking: 'stream' });
  const manifest = { ...manifestOf([artifact]), time: time.toISOString(), ...change };
  return (await writer.publish(manifest, ctx)).addedBytes;
}

test('without a snapshot: a warning, and whether the first fits', async () => {
  const found = await examined(noon);
  assert.match(found('repository')[0]?.found ?? '', /format version 2, 0 snapshots/);
  assert.deepEqual(states(found('last snapshot')), ['warning']);
  assert.deepEqual(states(found('space')), ['ok']);
  assert.deepEqual(found('locks'), []);
  assert.deepEqual(states((await examined(noon, { stackBytes: 2 ** 60 }))('space')), ['warning']);
});

test('the last snapshot may be a day old, or as old as the schedule has it', async () => {
  await publish(new Date(noon.getTime() - 20 * hourMs), 300_000);
  const later = (hours: number, backupCron?: string) =>
    examined(new Date(noon.getTime() + hours * hourMs), backupCron === undefined ? {} : { backupCron });
  const last = async (hours: number, cron?: string): Promise<string[]> =>
    states((await later(hours, cron))('last snapshot'));
  assert.deepEqual(await last(5), ['ok']);
  assert.deepEqual(await last(7), ['warning'], 'after 27 hours');
  assert.deepEqual(await last(7, '30 2 * * 0'), ['ok'], 'once a week is enough');
  assert.deepEqual(await last(0, '0 6,11 * * *'), ['warning'], 'missed at 6');
  assert.deepEqual(await last(0, '0 11 * * *'), ['ok'], 'that of 11 may still run');
});

test('how many more fit goes by what the last ones added, and not by the first', async () => {
  const small = await publish(new Date(noon.getTime() - 10 * hourMs), 40_000);
  const found = await examined(noon);
  assert.match(found('space')[0]?.found ?? '', /more than 1000 more snapshots that add 4\d\.\d KiB/);
  assert.ok(small < 60_000);
  assert.deepEqual(await recorded(), [small], 'the last snapshot records what it added');
});

async function recorded(): Promise<(number | undefined)[]> {
  return (await store.list(testContext())).slice(-1).map(({ addedBytes }) => addedBytes);
}

test('a partial snapshot is said with what failed in it', async () => {
  const failed: Manifest['components'][number] = {
    ...{ name: 'redis', kind: 'redis', outcome: 'failed' as const, facts: {}, artifacts: [] },
    error: { code: 'service-unavailable', message: 'Redis does not answer' },
  };
  const { components } = manifestOf([]);
  await publish(new Date(noon.getTime() - 9 * hourMs), 41_000, {
    outcome: 'partial',
    components: [...components, failed],
  });
  const [diagnosis] = (await examined(noon))('last snapshot');
  assert.equal(diagnosis?.state, 'warning');
  assert.match(diagnosis.found, /partial: redis: Redis does not answer/);
});

test('a clock that is off is seen by snapshots and by files of a time to come', async () => {
  assert.deepEqual(states((await examined(new Date()))('clock')), ['ok']);
  const snapshots = (await examined(new Date(noon.getTime() - 12 * hourMs)))('clock');
  assert.ok(
    snapshots.some(({ found }) => found.startsWith('Snapshot')),
    JSON.stringify(snapshots),
  );
  assert.ok(snapshots.length <= 2, 'one for all snapshots, one for files');
  const ahead = new Date(Date.now() + hourMs);
  await utimes(join(directory.path, 'index'), ahead, ahead);
  const files = (await examined(new Date()))('clock');
  assert.match(files[0]?.found ?? '', /^A file in .* has the time .* in the future/);
});

test('locks: a live holder is told, one that is left over is to be removed', async () => {
  const ctx = testContext();
  const repository = await openRepository(createLocalStorage(directory.path), password, ctx);
  const lock = {
    time: new Date(0).toISOString(),
    exclusive: false,
    hostname: 'elsewhere',
    username: 'u',
    pid: 7,
  };
  const name = await repository.saveUnpacked('locks', JSON.stringify(lock), never);
  {
    await using _writer = await store.begin(label, ctx);
    const found = (await examined(new Date()))('locks');
    assert.deepEqual(states(found), ['warning', 'ok']);
    assert.match(found[0]?.found ?? '', /PID 7 on elsewhere/);
    assert.match(found[0]?.hint ?? '', /tars unlock/);
    assert.match(found[1]?.found ?? '', new RegExp(`PID ${process.pid} `));
  }
  await repository.storage.remove({ type: 'locks', name }, never);
  for (const [json, hint] of [
    [JSON.stringify({ ...lock, exclusive: true }), /run tars unlock\.$/],
    ['{}', /run tars unlock --all\.$/],
  ] as const) {
    const other = await repository.saveUnpacked('locks', json, never);
    const found = (await examined(new Date()))('locks');
    assert.deepEqual(states(found), ['error'], 'being locked out is no small thing');
    assert.match(found[0]?.found ?? '', /blocks? every backup|blocks? every/);
    assert.match(found[0]?.hint ?? '', hint);
    await repository.storage.remove({ type: 'locks', name: other }, never);
  }
  assert.deepEqual((await examined(new Date()))('locks'), []);
});

test('a recovery key that was never exported, or that opens nothing any more, is a warning', async () => {
  const [key] = await store.listKeys(testContext());
  const kit = (keyId: string) => ({ exportedAt: '2026-11-24T00:00:00Z', keyId });
  assert.deepEqual(states((await examined(noon))('recovery key')), ['warning']);
  assert.deepEqual(states((await examined(noon, { kit: kit(key?.id ?? '') }))('recovery key')), ['ok']);
  assert.deepEqual(states((await examined(noon, { kit: kit('0'.repeat(64)) }))('recovery key')), ['warning']);
});

test('a pack that is missing is an error that names the way to heal', async () => {
  assert.deepEqual(states((await examined(noon))('packs')), ['ok']);
  const data = join(directory.path, 'data');
  const [pack = ''] = (await readdir(data, { recursive: true })).filter((name) => /[0-9a-f]{64}$/.test(name));
  await rename(join(data, pack), join(directory.root, 'pack'));
  const [found] = (await examined(noon))('packs');
  assert.equal(found?.state, 'error');
  assert.match(found.found, /^The repository has 1 pack missing: /);
  assert.match(found.hint ?? '', /tars check --read-data/);
  const { stdout, stderr } = await tarsCheck();
  assert.match(stderr, /is in the index, but the file is missing/);
  assert.match(
    stdout,
    /^Damaged: \d+ errors?, listed above\n +1\. .*copy it back.*\n +2\. Run tars backup: .*\n.*\n +4\. Run tars prune: /,
  );
  await rename(join(directory.root, 'pack'), join(data, pack));
  assert.match((await tarsCheck()).stdout, /^No damage: /);
});

async function tarsCheck(): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const settingsPath = join(directory.root, 'tars.yaml');
  const settings = {
    ...{ version: 1, stack: 'lab', scratch_dir: directory.root, state_dir: join(directory.root, 'state') },
    repository: { path: directory.path },
    components: { config: { files: ['none.env'] } },
  };
  await writeFile(settingsPath, stringify(settings), { mode: 0o600 });
  return tars(['--config', settingsPath, 'check'], { env: { TARS_PASSWORD: password } });
}
