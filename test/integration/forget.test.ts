import assert from 'node:assert/strict';
import { countAmounts } from '../../src/composition/index.ts';
import { execa } from 'execa';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createArchiveDestination } from '../../src/archive/write.ts';
import { parseSpan } from '../../src/model/calendar.ts';
import { ConfigurationError, RepositoryLockedError, TarsError } from '../../src/model/errors.ts';
import {
  executeForget,
  planForget,
  planForgetNamed,
  removedBy,
  type ForgetRequest,
} from '../../src/operations/retention/forget.ts';
import type { PruneOutcome } from '../../src/operations/retention/prune.ts';
import { encodeSnapshot } from '../../src/repository/format/snapshot-file.ts';
import { acquireLock } from '../../src/repository/lock/lock.ts';
import { openRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { systemClock } from '../../src/runtimes/system-clock.ts';
import { tars } from '../fixtures/cli.ts';
import { password, type RepositoryDirectory } from '../fixtures/repositories.ts';
import { publishSketch, removeTemplate, startShelf, writeSettings } from '../fixtures/retention.ts';
import { simulatedContext } from '../simulation/stack-snapshots.ts';

const ctx = simulatedContext();
after(removeTemplate);
const keepTwo: ForgetRequest = {
  rules: { last: 2, tags: [] },
  ...{ stack: 'lab', hostname: 'box' },
  allowLast: false,
  allowShrunk: false,
  count: countAmounts,
};

const snapshotIds = async (directory: RepositoryDirectory): Promise<string[]> =>
  (await readdir(join(directory.path, 'snapshots'))).sort();

const hasCode =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof TarsError && error.code === code;

test('what goes is of this stack, complete or superseded; stock restic finds the rest sound', async () => {
  const shelf = await startShelf([
    { day: 1 },
    { day: 2, partial: true },
    { day: 3 },
    { day: 3, stack: 'other' },
    { day: 4 },
    { day: 5, partial: true },
  ]);
  await using directory = shelf.directory;
  const [first, failed, second, other, third, failedLast] = shelf.ids;
  await writeFile(join(directory.root, 'file'), 'of stock restic');
  await directory.restic(['backup', 'file']);
  const before = await snapshotIds(directory);
  await using store = await directory.store();
  const plan = await planForget(store, keepTwo, ctx);
  assert.deepEqual(
    removedBy(plan).map(({ id }) => id),
    [first, failed],
  );
  assert.deepEqual(await snapshotIds(directory), before);
  await executeForget(store, plan, ctx);
  assert.deepEqual(
    await snapshotIds(directory),
    before.filter((id) => id !== first && id !== failed),
  );
  for (const id of [second, other, third, failedLast]) assert.ok(before.includes(id ?? ''));
  await directory.restic(['check', '--read-data']);
  // The plan relies on what is there, so it cannot be followed once that is not.
  await directory.restic(['forget', third ?? '']);
  await assert.rejects(executeForget(store, plan, ctx), hasCode('forget-refused'));
  const everyStack = await planForget(store, { ...keepTwo, stack: undefined }, ctx);
  assert.deepEqual(
    everyStack.stacks.map(({ stack, decisions }) => [stack, decisions.length]),
    [
      ['lab', 2],
      ['other', 1],
    ],
  );
});

test('a store that has shrunk by half holds everything back until that is allowed', async () => {
  const shelf = await startShelf([{ day: 1 }, { day: 2 }, { day: 3, rows: 40 }, { day: 4, partial: true }]);
  await using directory = shelf.directory;
  await using store = await directory.store();
  const held = await planForget(store, keepTwo, ctx);
  assert.deepEqual(held.stacks[0]?.heldBack, ['postgres had 100 rows and now has 40']);
  assert.deepEqual(removedBy(held), []);
  assert.deepEqual(held.stacks[0].decisions.at(-1)?.reasons, ['kept by no rule', 'held back']);
  assert.equal(removedBy(await planForget(store, { ...keepTwo, allowShrunk: true }, ctx)).length, 1);
  // The next snapshot finds it as it was, but no other that stays has what there was before.
  const next = await publishSketch(store, { day: 5, rows: 41 });
  const last = await planForget(store, keepTwo, ctx);
  const second = (shelf.ids[1] ?? '').slice(0, 8);
  assert.deepEqual(last.stacks[0]?.heldBack, [
    `postgres has 100 rows in ${second}, which would be removed, and at most 41 in newer snapshots that stay`,
  ]);
  assert.deepEqual(removedBy(last), []);
  assert.equal(removedBy(await planForget(store, { ...keepTwo, allowShrunk: true }, ctx)).length, 3);
  const keepFour = { ...keepTwo, rules: { tags: [], last: 3 } };
  const still = await planForget(store, keepFour, ctx);
  assert.deepEqual(
    removedBy(still).map(({ id }) => id),
    [shelf.ids[0], shelf.ids[3]],
    'one that stays has as much',
  );
  assert.ok(!removedBy(still).some(({ id }) => id === next));
});

test('backups of a part push no whole one out', async () => {
  const part = { configOnly: true };
  const shelf = await startShelf([{ day: 1 }, { day: 2, ...part }, { day: 3, ...part }, { day: 4, ...part }]);
  await using directory = shelf.directory;
  await using store = await directory.store();
  const whole = (shelf.ids[0] ?? '').slice(0, 8);
  const plan = await planForget(store, keepTwo, ctx);
  assert.deepEqual(plan.stacks[0]?.heldBack, [
    `postgres is in ${whole}, which would be removed, and in no newer snapshot that stays`,
  ]);
  assert.deepEqual(removedBy(plan), []);
});

test('when a manifest cannot be read nothing goes', async () => {
  const shelf = await startShelf([{ day: 1 }, { day: 2 }]);
  await using directory = shelf.directory;
  const repository = await openRepository(createLocalStorage(directory.path), password, ctx);
  const damaged = encodeSnapshot({
    ...{ timeNs: BigInt(Date.UTC(2025, 10, 20)) * 1_000_000n, tree: '0'.repeat(64), paths: ['/tars/lab'] },
    ...{ hostname: 'box', username: 'op', uid: 0, gid: 0, tags: ['tars'] },
  });
  await repository.saveUnpacked('snapshots', damaged, ctx.signal);
  await using store = await directory.store();
  const plan = await planForget(store, keepTwo, ctx);
  assert.match(plan.stacks[0]?.heldBack[0] ?? '', /^it is unknown whether a store has shrunk: /);
  assert.deepEqual(removedBy(plan), []);
});

test('named snapshots go, but not the newest complete one and not those of others', async () => {
  const shelf = await startShelf([{ day: 1 }, { day: 2 }, { day: 3 }, { day: 4, partial: true }]);
  await using directory = shelf.directory;
  const [first = '', , newest = '', partial = ''] = shelf.ids;
  await writeFile(join(directory.root, 'file'), 'of stock restic');
  await directory.restic(['backup', 'file']);
  const [foreign = ''] = (await snapshotIds(directory)).filter((id) => !shelf.ids.includes(id));
  await using store = await directory.store();
  const named = (ids: readonly string[], allowLast = false) =>
    planForgetNamed(store, ids, { allowLast }, ctx);
  assert.deepEqual(
    removedBy(await named([first.slice(0, 12), partial])).map(({ id }) => id),
    [first, partial],
  );
  await assert.rejects(named([first, newest]), hasCode('forget-refused'));
  await assert.rejects(named([foreign]), hasCode('forget-refused'));
  for (const unknown of ['', 'latest', 'zz'])
    await assert.rejects(named([unknown]), hasCode('snapshot-not-found'));
  await executeForget(store, await named([newest, first], true), ctx);
  assert.deepEqual(await snapshotIds(directory), [shelf.ids[1], partial, foreign].sort());
});

test('a snapshot is written by the clock of its machine', async () => {
  const shelf = await startShelf([]);
  await using directory = shelf.directory;
  await using store = await directory.store();
  const zone = process.env['TZ'];
  process.env['TZ'] = 'Asia/Kathmandu';
  try {
    await publishSketch(store, { day: 1 });
  } finally {
    if (zone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = zone;
  }
  assert.equal((await store.list(ctx))[0]?.utcOffsetMinutes, 345);
  const [seen] = JSON.parse(String(await directory.restic(['snapshots', '--json']))) as { time: string }[];
  assert.equal(seen?.time, '2025-11-01T17:45:00+05:45');
});

test('rules that keep nothing are refused', async () => {
  const shelf = await startShelf([{ day: 1 }]);
  await using directory = shelf.directory;
  await using store = await directory.store();
  for (const rules of [{ tags: [] }, { tags: [], within: parseSpan('0d') }]) {
    await assert.rejects(planForget(store, { ...keepTwo, rules }, ctx), ConfigurationError);
  }
});

test('while stock restic works nothing is removed, and the command says so with exit code 11', async () => {
  const shelf = await startShelf([{ day: 1 }, { day: 2 }, { day: 3 }]);
  await using directory = shelf.directory;
  await using store = await directory.store();
  const plan = await planForget(store, keepTwo, ctx);
  const restic = execa('restic', ['--repo', directory.path, '--no-cache', 'backup', '--stdin'], {
    env: { RESTIC_PASSWORD: password },
  });
  try {
    const locks = join(directory.path, 'locks');
    const isLock = (name: string): boolean => /^[0-9a-f]{64}$/.test(name);
    while (!(await readdir(locks)).some(isLock)) {
      assert.equal(restic.exitCode ?? undefined, undefined, 'restic has ended');
      await systemClock.sleep(2, ctx.signal);
    }
    await assert.rejects(executeForget(store, plan, ctx), RepositoryLockedError);
    const run = await tars([...shelf.config, 'forget', '--keep-last', '1', '--yes', '--json']);
    assert.equal(run.exitCode, 11, run.stderr);
    assert.match(run.stderr, /"code":"repository-locked"/);
  } finally {
    restic.stdin.end('some text');
  }
  await restic;
  for (const id of shelf.ids) assert.ok((await snapshotIds(directory)).includes(id));
});

test('tars forget previews, asks, removes and prunes', async () => {
  const shelf = await startShelf([{ day: 1 }, { day: 2 }, { day: 3 }]);
  await using directory = shelf.directory;
  await writeSettings(directory.root, { retention: { keep_daily: 1 } });
  const forget = (...args: string[]) => tars([...shelf.config, 'forget', ...args]);

  const [preview, unasked, asJson] = await Promise.all([
    forget('--dry-run'),
    forget('--keep-last', '2'),
    forget('--dry-run', '--json', '--keep-last', '2', '--keep-tag', 'x'),
  ]);
  assert.equal(preview.exitCode, 0, preview.stderr);
  const lines = preview.stdout.split('\n').map((line) => line.split(/ {2,}/));
  assert.deepEqual(lines[1], [
    shelf.ids[2]?.slice(0, 8),
    '2025-11-03 12:00:00 +00:00',
    'keep',
    'daily snapshot',
  ]);
  assert.deepEqual(lines[2]?.slice(2), ['remove', 'kept by no rule']);
  assert.equal(lines.at(-1)?.[0], 'Stack lab on box: would remove 2 snapshots, 1 kept');
  assert.equal(unasked.exitCode, 1);
  assert.match(unasked.stderr, /add --yes/);
  const { stacks, dryRun } = JSON.parse(asJson.stdout) as {
    stacks: { decisions: { snapshot: { id: string }; keep: boolean }[] }[];
    dryRun: boolean;
  };
  assert.ok(dryRun);
  assert.deepEqual(
    stacks[0]?.decisions.map(({ keep }) => keep),
    [true, true, false],
  );
  assert.deepEqual(await snapshotIds(directory), [...shelf.ids].sort());

  const both = await forget('--dry-run', '--prune', '--json');
  const foreseen = (JSON.parse(both.stdout) as { prune: PruneOutcome }).prune.plan;
  assert.deepEqual(await snapshotIds(directory), [...shelf.ids].sort());
  {
    const repository = await openRepository(createLocalStorage(directory.path), password, ctx);
    await using _reader = await acquireLock(repository, { exclusive: false }, ctx);
    const busy = await forget('--dry-run', '--prune');
    assert.equal(busy.exitCode, 0, busy.stderr);
    assert.match(busy.stdout, /would remove 2 snapshots/);
    assert.match(busy.stderr, /It is unknown how much pruning would free: .* is locked by/);
  }
  const done = await forget('--yes', '--prune', '--json');
  const { plan: made } = (JSON.parse(done.stdout) as { prune: PruneOutcome }).prune;
  assert.ok(made.freedBytes > 0);
  assert.deepEqual(foreseen, made);
  assert.equal(done.exitCode, 0, done.stderr);
  assert.deepEqual(await snapshotIds(directory), [shelf.ids[2]]);
  await directory.restic(['check', '--read-data']);
});

test('what was forgotten is said also when pruning it fails', async () => {
  const shelf = await startShelf([{ day: 1 }, { day: 2 }]);
  await using directory = shelf.directory;
  const repository = await openRepository(createLocalStorage(directory.path), password, ctx);
  const damaged = encodeSnapshot({
    ...{ timeNs: 0n, tree: '0'.repeat(64), paths: ['/elsewhere'], tags: [] },
    ...{ hostname: 'box', username: 'op', uid: 0, gid: 0 },
  });
  const foreign = await repository.saveUnpacked('snapshots', damaged, ctx.signal);
  const args = ['forget', '--keep-last', '1', '--prune', '--yes'];
  const { exitCode, stderr } = await tars([...shelf.config, ...args]);
  assert.equal(exitCode, 1, stderr);
  assert.match(stderr, /1 snapshot forgotten; the space is not free yet, as pruning failed/);
  assert.match(stderr, /Nothing is pruned from a damaged repository/);
  assert.deepEqual(await snapshotIds(directory), [shelf.ids[1] ?? '', foreign].sort());
});

test('what makes no sense is refused before anything is read', async () => {
  const runs = await Promise.all(
    [
      ['--keep-last', '0'],
      ['--keep-last', '2', 'abcd'],
    ].map((args) => tars(['forget', ...args])),
  );
  for (const { exitCode, stderr } of runs) {
    assert.equal(exitCode, 1);
    assert.doesNotMatch(stderr, /tars init|no configuration/);
  }
});

test('a complete backup forgets what retention no longer keeps, and stays good when that fails', async () => {
  const shelf = await startShelf([{ day: 1 }, { day: 2 }]);
  await using directory = shelf.directory;
  const outputDir = join(directory.root, 'out');
  const retention = { keep_last: 1, after_backup: true, archives: { keep_last: 2 } };
  await writeSettings(directory.root, { retention });
  const backup = (...args: string[]) => tars([...shelf.config, 'backup', ...args]);

  // The first backup by these settings has no postgres.
  const held = await backup();
  assert.equal(held.exitCode, 0, held.stderr);
  assert.match(held.stderr, /Nothing of lab on box is forgotten: postgres is no longer in tars\.yaml/);
  assert.equal((await snapshotIds(directory)).length, 3);
  assert.equal((await tars([...shelf.config, 'forget', '--allow-shrunk', '--yes'])).exitCode, 0);
  {
    const repository = await openRepository(createLocalStorage(directory.path), password, ctx);
    await using _reader = await acquireLock(repository, { exclusive: false }, ctx);
    const locked = await backup();
    assert.equal(locked.exitCode, 0, locked.stderr);
    assert.match(
      locked.stderr,
      /The backup is complete, but old snapshots could not be forgotten: .* is locked by/,
    );
    assert.equal((await snapshotIds(directory)).length, 2);
  }
  const nobody = { kind: 'redis', port: 1 };
  const components = { config: { files: ['app.env'] }, nobody };
  await writeSettings(directory.root, { retention, components });
  assert.equal((await backup()).exitCode, 2);
  assert.equal((await snapshotIds(directory)).length, 3);
  await writeSettings(directory.root, { retention });
  const followed = await backup();
  assert.match(followed.stderr, /Retention: 3 snapshots forgotten/);
  assert.equal((await snapshotIds(directory)).length, 1);

  const destination = createArchiveDestination({
    outputDir,
    compression: 'zstd',
    scratchDir: directory.root,
  });
  const archive = await publishSketch(destination, { day: 1, configOnly: true });
  await publishSketch(destination, { day: 2, configOnly: true });
  const archived = await backup('--output-dir', outputDir);
  assert.match(archived.stderr, /Retention: 1 snapshot forgotten/);
  const left = await readdir(outputDir);
  assert.equal(left.length, 4);
  assert.ok(left.every((name) => !name.startsWith(archive)));
  assert.equal((await snapshotIds(directory)).length, 1);
});
