import assert from 'node:assert/strict';
import { countAmounts } from '../../src/composition/index.ts';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Diagnosis } from '../../src/operations/doctor/doctor.ts';
import { planForget, removedBy, type ForgetRequest } from '../../src/operations/retention/forget.ts';
import type { StackStatus } from '../../src/operations/schedule/status.ts';
import { tars } from '../fixtures/cli.ts';
import type { RepositoryDirectory } from '../fixtures/repositories.ts';
import { publishSketch, removeTemplate, startShelf, writeSettings } from '../fixtures/retention.ts';
import { simulatedContext } from '../simulation/stack-snapshots.ts';

const ctx = simulatedContext();
after(removeTemplate);

const retention = { keep_last: 2 };
/** Of the year 2135. */
const farDay = 40_000;
const snapshotIds = async ({ path }: RepositoryDirectory): Promise<string[]> =>
  (await readdir(join(path, 'snapshots'))).sort();

async function warningsIn(config: readonly string[]): Promise<StackStatus['warnings']> {
  const { stdout, stderr } = await tars([...config, 'status', '--json']);
  assert.ok(stdout, stderr);
  return (JSON.parse(stdout) as StackStatus).warnings;
}

async function retentionInDoctor(config: readonly string[]): Promise<readonly Diagnosis[]> {
  const { stdout } = await tars([...config, 'doctor', '--json']);
  const { diagnoses } = JSON.parse(stdout) as { diagnoses: Diagnosis[] };
  return diagnoses.filter(({ check }) => check === 'retention');
}

test('a component that left tars.yaml holds back, which status and doctor say, until told once', async () => {
  const gone = { configOnly: true };
  const shelf = await startShelf([{ day: 1 }, { day: 2 }, { day: 3, ...gone }]);
  await using directory = shelf.directory;
  await writeSettings(directory.root, { retention });
  const forget = (...args: string[]) => tars([...shelf.config, 'forget', '--yes', ...args]);

  const held = await forget();
  assert.equal(held.exitCode, 0, held.stderr);
  assert.match(
    held.stderr,
    /Nothing of lab on box is forgotten: postgres is no longer in tars\.yaml\. .*: tars forget --allow-shrunk$/m,
  );
  assert.deepEqual(await snapshotIds(directory), [...shelf.ids].sort());
  const [warning, ...more] = await warningsIn(shelf.config);
  assert.deepEqual(more, []);
  assert.match(
    warning?.found ?? '',
    /^Nothing has been forgotten since 20\S+: postgres is no longer in tars\.yaml$/,
  );
  assert.match(warning?.hint ?? '', /run tars forget --allow-shrunk\.$/);
  const { stdout } = await tars([...shelf.config, 'status']);
  assert.match(
    stdout,
    /^ {2}Nothing has been forgotten since [^]*?\n {4}If that is .* tars forget --allow-shrunk\.$/m,
  );
  assert.deepEqual(await retentionInDoctor(shelf.config), [
    { check: 'retention', state: 'warning', ...warning },
  ]);

  const told = await forget('--allow-shrunk');
  assert.equal(told.exitCode, 0, told.stderr);
  assert.deepEqual(await snapshotIds(directory), shelf.ids.slice(1).sort());
  assert.deepEqual(await warningsIn(shelf.config), []);
  assert.equal((await retentionInDoctor(shelf.config))[0]?.state, 'ok');

  // Now the last that has it goes.
  {
    await using store = await directory.store();
    await publishSketch(store, { day: 4, ...gone });
  }
  const next = await forget();
  assert.doesNotMatch(next.stderr, /is forgotten/);
  assert.equal((await snapshotIds(directory)).length, 2, next.stderr);
});

test('what was let go holds back again once tars.yaml names it, and only what was let go does not', async () => {
  const gone = { configOnly: true };
  const shelf = await startShelf([{ day: 1 }, { day: 2, ...gone }, { day: 3, ...gone }, { day: 4, ...gone }]);
  await using directory = shelf.directory;
  await using store = await directory.store();
  const plan = async (components: string[], letGo: string[], more: Partial<ForgetRequest> = {}) => {
    const described = { stack: 'lab', hostname: 'box', components, letGo };
    const rules = { last: 2, tags: [] };
    const request = {
      rules,
      stack: 'lab',
      hostname: 'box',
      allowLast: false,
      allowShrunk: false,
      count: countAmounts,
      described,
      ...more,
    };
    return planForget(store, request, ctx);
  };
  const [first = ''] = shelf.ids;
  const untold = await plan(['config'], []);
  assert.deepEqual(untold.stacks[0]?.heldBack, [
    `postgres is no longer in tars.yaml, and ${first.slice(0, 8)}, which would be removed, is the newest snapshot that has it`,
  ]);
  const told = await plan(['config'], [], { allowShrunk: true });
  assert.deepEqual(told.stacks[0]?.letGo, ['postgres']);
  const followed = await plan(['config'], ['postgres']);
  assert.equal(removedBy(followed).length, 2);
  assert.deepEqual(followed.stacks[0]?.letGo, ['postgres'], 'handed on to the next run');
  const back = await plan(['config', 'postgres'], ['postgres']);
  assert.match(back.stacks[0]?.heldBack[0] ?? '', /^postgres is in .*, which would be removed/);
  assert.deepEqual(back.stacks[0]?.letGo, [], 'it is not let go any more');
  assert.equal(removedBy(await plan(['config'], ['redis'])).length, 0);
});

test('a snapshot by a clock that was ahead holds nothing back, and is said until it is gone', async () => {
  const shelf = await startShelf([{ day: 1 }, { day: 2 }, { day: farDay, rows: 40 }]);
  await using directory = shelf.directory;
  await writeSettings(directory.root, { retention });
  const future = (shelf.ids[2] ?? '').slice(0, 8);
  const forgotten = await tars([...shelf.config, 'forget', '--yes']);
  assert.equal(forgotten.exitCode, 0, forgotten.stderr);
  assert.match(
    forgotten.stderr,
    new RegExp(`Snapshot ${future} has the date 2135-.*tars forget ${future} --allow-last`),
  );
  assert.deepEqual(await snapshotIds(directory), shelf.ids.slice(1).sort());
  const [warning] = await warningsIn(shelf.config);
  assert.match(warning?.found ?? '', new RegExp(`^Snapshot ${future} has the date 2135-`));
  const hint = await tars([...shelf.config, 'forget', future, '--allow-last', '--yes']);
  assert.equal(hint.exitCode, 0, hint.stderr);
  assert.deepEqual(await warningsIn(shelf.config), []);
});

test('the hint that is printed says where and by which rules', async () => {
  const shelf = await startShelf([{ day: 1 }, { day: 2 }, { day: 3, rows: 40 }]);
  await using directory = shelf.directory;
  const rules = ['--keep-last', '1', '--keep-tag', 'a,b'];
  const held = await tars([...shelf.config, 'forget', '--yes', ...rules]);
  const [, command = ''] = /If that is expected, run: tars (.*)$/m.exec(held.stderr) ?? [];
  const cured = await tars([...shelf.config, ...command.split(' '), '--yes']);
  assert.equal(cured.exitCode, 0, cured.stderr);
  assert.equal((await snapshotIds(directory)).length, 1);
});
