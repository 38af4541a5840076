import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { pruneRepository } from '../../src/operations/retention/prune.ts';
import type { PruneLimits, PruneResult } from '../../src/ports/prune.ts';
import type { SnapshotStore } from '../../src/ports/snapshot-store.ts';
import type { StorageBackend } from '../../src/ports/storage.ts';
import { campaignSeed, counted } from '../fixtures/campaign.ts';
import { withRestic } from '../fixtures/memory-repository.ts';
import { FaultyStorage, MemoryStorage, type CrashPoint, type StorageCall } from '../fixtures/storage.ts';
import {
  createCheapRepository,
  leftByCrash,
  password,
  sampleArtifacts,
  simulatedContext,
  verifySnapshots,
  writeSnapshot,
  type SampleArtifact,
} from './stack-snapshots.ts';

const seed = campaignSeed;
const modelBytes = 200 << 10;
const versions = [1, 2, 3, 4, 5, 6];
const artifacts = new Map(versions.map((version) => [version, sampleArtifacts(version, seed, modelBytes)]));
const artifactsOf = (version: number): readonly SampleArtifact[] => artifacts.get(version) ?? assert.fail();
const kept = [2, 4];
/** Everything that is unused goes. */
const thorough: PruneLimits = { maxUnusedBytes: () => 0, maxRepackBytes: Number.POSITIVE_INFINITY };

const open = (storage: StorageBackend, hasty = false): Promise<SnapshotStore> =>
  openSnapshotStore(storage, password, simulatedContext({ hasty }), { workers: 1, compressionLevel: 1 });

/** One process that prunes; `hasty` writes an index file after every pack. */
async function prune(storage: StorageBackend, hasty = false): Promise<PruneResult> {
  const ctx = simulatedContext({ hasty });
  await using store = await open(storage, hasty);
  const { done } = await pruneRepository(store, thorough, { dryRun: false }, ctx);
  return done ?? assert.fail('nothing was done');
}

const keysOf = ({ files }: MemoryStorage, type: string): string[] =>
  [...files.keys()].filter((key) => key.startsWith(`${type}/`));
const packBytes = (storage: MemoryStorage): number =>
  keysOf(storage, 'data').reduce((total, key) => total + (storage.files.get(key)?.length ?? 0), 0);

/** What the last snapshot added under `type`. */
function newest(storage: MemoryStorage, earlier: MemoryStorage, type: string): string[] {
  return keysOf(storage, type).filter((key) => !earlier.files.has(key));
}

/**
 * Six snapshots: two are kept, two forgotten, of one the packs are in no index, and of one they are indexed but gone.
 */
async function used(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  await createCheapRepository(storage, simulatedContext());
  await using store = await open(storage);
  for (const version of versions) {
    const earlier = storage.copy();
    await writeSnapshot(store, version, artifactsOf(version), simulatedContext());
    const lost = version === 5 ? 'index' : version === 6 ? 'data' : undefined;
    const isForgotten = !kept.includes(version);
    for (const key of isForgotten ? newest(storage, earlier, 'snapshots') : []) storage.files.delete(key);
    for (const key of lost === undefined ? [] : newest(storage, earlier, lost)) storage.files.delete(key);
  }
  return storage;
}

async function requireWhole(store: SnapshotStore, severities: readonly string[]): Promise<void> {
  const ctx = simulatedContext();
  assert.deepEqual(await verifySnapshots(store, artifactsOf, ctx), kept);
  const { findings } = await store.check({ readData: true }, ctx);
  assert.deepEqual(
    findings.filter(({ severity }) => severities.includes(severity)),
    [],
  );
}

describe(`a crash at every storage call of a prune (seed ${seed})`, () => {
  let fresh: MemoryStorage;
  let cleanBytes: number;
  const calls = new Map<boolean, readonly StorageCall[]>();
  const callsOf = (hasty: boolean): readonly StorageCall[] => calls.get(hasty) ?? assert.fail();

  before(async () => {
    fresh = await used();
    for (const hasty of [false, true]) {
      const counting = new FaultyStorage(fresh.copy());
      await prune(counting, hasty);
      calls.set(hasty, counting.calls);
    }
  });

  test('an undisturbed prune leaves what snapshots need, and nothing else', async () => {
    const storage = fresh.copy();
    const beforeBytes = packBytes(storage);
    const done = await prune(storage);
    cleanBytes = packBytes(storage);
    assert.equal(beforeBytes - cleanBytes, done.freedBytes);
    assert.ok(done.writtenBytes > 0 && done.freedBytes > beforeBytes / 10, JSON.stringify(done));
    await using store = await open(storage);
    await requireWhole(store, ['error', 'warning', 'info']);
    const again = await prune(storage);
    assert.deepEqual([again.removedPacks, again.writtenBytes], [0, 0]);
    assert.ok(callsOf(true).length > callsOf(false).length);
  });

  const crashAt = (hasty: boolean, crash: CrashPoint): Promise<MemoryStorage> =>
    leftByCrash(fresh, crash, (storage) => prune(storage, hasty));

  /** What the crash left is whole, and the next prune leaves as much as an undisturbed one would have. */
  const examineAndGoOn = async (left: MemoryStorage): Promise<void> => {
    await using store = await open(left);
    await store.unlock({ all: true }, simulatedContext());
    // Packs that are gone and not needed are in the index from the beginning.
    assert.deepEqual(await verifySnapshots(store, artifactsOf, simulatedContext()), kept);
    await prune(left);
    await requireWhole(store, ['error', 'warning', 'info']);
    const tolerance = cleanBytes / 100;
    assert.ok(Math.abs(packBytes(left) - cleanBytes) < tolerance, `${packBytes(left)}, not ${cleanBytes}`);
  };

  const changes = ({ operation }: StorageCall): boolean => operation === 'save' || operation === 'remove';

  for (const hasty of [false, true]) {
    test(`every snapshot is whole and the next prune goes on${hasty ? ', with many index files' : ''}`, async (t) => {
      // Nothing is left differently by a crash in a read, so few of those are enough.
      const chosen = callsOf(hasty).filter((call) => changes(call) || call.number % counted(20, 1) === 0);
      for (const { number: callNumber, operation } of chosen) {
        // What a call leaves that took effect is what the next one finds that does not.
        const effect = callNumber === callsOf(hasty).length ? 'after' : 'before';
        try {
          await examineAndGoOn(await crashAt(hasty, { callNumber, effect }));
        } catch (cause) {
          throw new Error(`Seed ${seed}: crash at call ${callNumber} (${operation}), ${effect}`, { cause });
        }
      }
      t.diagnostic(`${chosen.length} crashes in ${callsOf(hasty).length} calls`);
    });
  }

  test('a single call that fails, of whatever kind, loses nothing', async (t) => {
    const chosen = callsOf(false);
    for (const { number: callNumber, operation } of chosen) {
      const effect = callNumber % 2 === 0 ? 'after' : 'before';
      try {
        await examineAndGoOn(await crashAt(false, { callNumber, effect, passing: true }));
      } catch (cause) {
        throw new Error(`Seed ${seed}: call ${callNumber} (${operation}) failed, ${effect}`, { cause });
      }
    }
    t.diagnostic(`${chosen.length} failures`);
  });

  test('stock restic finds nothing wrong with what a crash leaves', async () => {
    // From the first change to the packs on; before that the packs that are gone are in the index.
    const chosen = callsOf(false).filter((call) => call.operation === 'remove' && call.type === 'data');
    const indexGone = callsOf(false).findLast((call) => call.operation === 'remove' && call.type === 'index');
    assert.ok(indexGone !== undefined && chosen.length > 2);
    const points = chosen.filter(({ number }) => number > indexGone.number).slice(0, counted(2, 50));
    for (const { number: callNumber } of points) {
      await withRestic(await crashAt(false, { callNumber, effect: 'after' }), password, async (restic) => {
        await restic('unlock', '--remove-all');
        await restic('check', '--read-data');
      });
    }
  });
});

describe(`a crash while a damaged repository becomes whole (seed ${seed})`, () => {
  let damaged: MemoryStorage;
  const backUp = async (storage: StorageBackend): Promise<void> => {
    await using store = await open(storage);
    await writeSnapshot(store, 2, artifactsOf(2), simulatedContext());
  };
  const requireHealed = async (left: MemoryStorage, snapshots: number): Promise<void> => {
    await prune(left);
    await using store = await open(left);
    const whole = await verifySnapshots(store, artifactsOf, simulatedContext());
    assert.deepEqual(
      whole,
      Array.from({ length: snapshots }, () => 2),
    );
    assert.deepEqual((await store.check({ readData: true }, simulatedContext())).findings, []);
  };
  const unlock = async (storage: MemoryStorage): Promise<void> => {
    await using store = await open(storage);
    await store.unlock({ all: true }, simulatedContext());
  };

  /** One snapshot, one byte of whose largest pack is wrong, which a check found. */
  before(async () => {
    damaged = new MemoryStorage();
    await createCheapRepository(damaged, simulatedContext());
    await backUp(damaged);
    const sizeOf = (key: string): number => damaged.files.get(key)?.length ?? 0;
    const [key = ''] = keysOf(damaged, 'data').sort((a, b) => sizeOf(b) - sizeOf(a));
    const bytes = Buffer.from(damaged.files.get(key) ?? assert.fail());
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    damaged.files.set(key, bytes);
    await using store = await open(damaged);
    const { findings } = await store.check({ readData: true }, simulatedContext());
    assert.ok(findings.some(({ code }) => code === 'snapshot-affected'));
  });

  const everyChange = async (
    fresh: MemoryStorage,
    work: (storage: StorageBackend) => Promise<unknown>,
    examine: (left: MemoryStorage) => Promise<void>,
  ): Promise<number> => {
    const counting = new FaultyStorage(fresh.copy());
    await work(counting);
    const changes = counting.calls.filter(({ operation }) => operation === 'save' || operation === 'remove');
    const chosen = changes.filter((_, position) => position % counted(2, 1) === 0);
    for (const { number: callNumber, operation } of chosen) {
      const left = await leftByCrash(fresh, { callNumber, effect: 'after' }, work);
      await unlock(left);
      await examine(left).catch((cause: unknown) => {
        throw new Error(`Seed ${seed}: crash at call ${callNumber} (${operation})`, { cause });
      });
    }
    return chosen.length;
  };

  test('in the backup that stores again what is damaged: the next one does', async () => {
    const count = await everyChange(damaged, backUp, async (left) => {
      const before = keysOf(left, 'snapshots').length;
      await backUp(left);
      await requireHealed(left, before + 1);
    });
    assert.ok(count > 1, `${count}`);
  });

  test('in the prune that takes the damaged pack out: every snapshot is whole, and the next prune goes on', async () => {
    const healing = damaged.copy();
    await backUp(healing);
    const count = await everyChange(healing, prune, async (left) => {
      await using store = await open(left);
      assert.deepEqual(await verifySnapshots(store, artifactsOf, simulatedContext()), [2, 2]);
      await requireHealed(left, 2);
    });
    assert.ok(count > 2, `${count}`);
  });
});
