import assert from 'node:assert/strict';
import { countAmounts } from '../../src/composition/index.ts';
import { before, test } from 'node:test';
import { RepositoryLockedError } from '../../src/model/errors.ts';
import { executeForget, planForget, removedBy } from '../../src/operations/retention/forget.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { campaignSeed } from '../fixtures/campaign.ts';
import { FaultyStorage, InjectedCrash, MemoryStorage, type CrashPoint } from '../fixtures/storage.ts';
import {
  createCheapRepository,
  password,
  sampleArtifacts,
  simulatedContext,
  stack,
  verifySnapshots,
  writeSnapshot,
} from './stack-snapshots.ts';

const ctx = simulatedContext();
const request = {
  rules: { last: 2, tags: [] },
  stack,
  hostname: 'simulation',
  allowLast: false,
  allowShrunk: true,
  count: countAmounts,
};
const artifactsOf = (version: number) => sampleArtifacts(version, campaignSeed, 4096);

let repository: MemoryStorage;
before(async () => {
  repository = new MemoryStorage();
  await createCheapRepository(repository, ctx);
  await using store = await openSnapshotStore(repository, password, ctx, { workers: 1 });
  for (const version of [1, 2, 3, 4, 5]) await writeSnapshot(store, version, artifactsOf(version), ctx);
});

/** Forgets three of five snapshots on a storage that dies at a call. Returns that storage. */
async function forgetOn(storage: MemoryStorage, crash?: CrashPoint): Promise<FaultyStorage> {
  await using planner = await openSnapshotStore(storage, password, ctx);
  const plan = await planForget(planner, request, ctx);
  const faulty = new FaultyStorage(storage, crash);
  try {
    await using store = await openSnapshotStore(faulty, password, ctx);
    await executeForget(store, plan, ctx);
  } catch (error) {
    // The cause of what says how far it came.
    const crashed = error instanceof InjectedCrash || (error as Error).cause instanceof InjectedCrash;
    assert.ok(crash !== undefined && crashed, String(error));
  }
  return faulty;
}

test('a forget that dies at any storage call leaves whole snapshots only, and the next one ends it', async () => {
  const { calls } = await forgetOn(repository.copy());
  assert.equal(
    calls.filter(({ operation, type }) => operation === 'remove' && type === 'snapshots').length,
    3,
  );
  for (const { number } of calls) {
    for (const effect of ['before', 'after'] as const) {
      const storage = repository.copy();
      const { fired } = await forgetOn(storage, { callNumber: number, effect });
      assert.ok(fired);
      await using store = await openSnapshotStore(storage, password, ctx);
      // Its lock is this process's, which lives.
      await store.unlock({ all: true }, ctx);
      const left = await verifySnapshots(store, artifactsOf, ctx);
      // The oldest go first, so that what is left are always the newest.
      assert.deepEqual(left, [1, 2, 3, 4, 5].slice(-left.length), `call ${number}, ${effect}`);
      assert.ok(left.length >= 2);
      await executeForget(store, await planForget(store, request, ctx), ctx);
      assert.deepEqual(await verifySnapshots(store, artifactsOf, ctx), [4, 5]);
    }
  }
});

test('a removal that fails says how many went before it', async () => {
  const storage = repository.copy();
  const { calls } = await forgetOn(repository.copy());
  const second = calls.filter(({ operation, type }) => operation === 'remove' && type === 'snapshots')[1];
  const faulty = new FaultyStorage(storage, {
    callNumber: second?.number ?? 0,
    effect: 'before',
    passing: true,
  });
  await using store = await openSnapshotStore(faulty, password, ctx);
  const plan = await planForget(await openSnapshotStore(storage, password, ctx), request, ctx);
  assert.equal(removedBy(plan).length, 3);
  await assert.rejects(executeForget(store, plan, ctx), /Injected crash .*; 1 of 3 snapshots were removed$/);
  assert.equal([...storage.files.keys()].filter((key) => key.startsWith('locks/')).length, 0);
});

/** Somebody removes all locks, as `restic unlock --remove-all` does, while the snapshots are listed. */
class UnlockedMeanwhile extends MemoryStorage {
  override async *list(...args: Parameters<MemoryStorage['list']>): ReturnType<MemoryStorage['list']> {
    yield* super.list(...args);
    if (args[0] !== 'snapshots') return;
    for (const key of this.files.keys()) if (key.startsWith('locks/')) this.files.delete(key);
  }
}

test('nothing is removed once somebody took the lock away', async () => {
  const storage = new UnlockedMeanwhile(repository.files);
  await using store = await openSnapshotStore(storage, password, ctx);
  const plan = await planForget(store, request, ctx);
  await assert.rejects(executeForget(store, plan, ctx), RepositoryLockedError);
  assert.equal((await store.list(ctx)).length, 5);
});
