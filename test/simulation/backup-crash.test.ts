import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { decodeIndex } from '../../src/repository/format/index-file.ts';
import { openRepository } from '../../src/repository/open.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import type { StorageBackend } from '../../src/ports/storage.ts';
import { campaignSeed, counted } from '../fixtures/campaign.ts';
import { FaultyStorage, InjectedCrash, MemoryStorage, type CrashPoint } from '../fixtures/storage.ts';
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

const tuning = { workers: 1, compressionLevel: 1 } as const;
/** In a campaign a snapshot makes several packs, each followed by an index file. */
const modelBytes = counted(256 << 10, 40 << 20);
const seed = campaignSeed;
const versions = new Map(
  [1, 2, 3].map((version) => [version, sampleArtifacts(version, seed, modelBytes)] as const),
);
const artifactsOf = (version: number): readonly SampleArtifact[] =>
  versions.get(version) ?? assert.fail(`unknown version ${version}`);

/** `hasty` writes an index file after every pack, `patient` one before the snapshot. */
const paces = ['patient', 'hasty'] as const;
type Pace = (typeof paces)[number];

/** One process: opens the repository and backs up twice. */
async function backUpTwice(storage: StorageBackend, pace: Pace): Promise<void> {
  const ctx = simulatedContext({ hasty: pace === 'hasty' });
  await using store = await openSnapshotStore(storage, password, ctx, tuning);
  await writeSnapshot(store, 1, artifactsOf(1), ctx);
  await writeSnapshot(store, 2, artifactsOf(2), ctx);
}

/** Every blob that some index file has, as `type id pack`. */
async function indexedBlobs(storage: StorageBackend): Promise<Map<string, Set<string>>> {
  const ctx = simulatedContext();
  const repo = await openRepository(storage, password, ctx);
  const found = new Map<string, Set<string>>();
  for await (const { name } of storage.list('index', ctx.signal)) {
    for (const { id, blobs } of decodeIndex(await repo.loadUnpacked('index', name, ctx.signal), name)) {
      for (const blob of blobs) {
        const key = `${blob.type} ${blob.id}`;
        found.set(key, (found.get(key) ?? new Set()).add(id));
      }
    }
  }
  return found;
}

/** Opens what the crash left as the next process would find it. */
async function examineAndGoOn(left: MemoryStorage): Promise<void> {
  const ctx = simulatedContext();
  const known = await indexedBlobs(left);
  await using store = await openSnapshotStore(left, password, ctx, tuning);
  const published = await verifySnapshots(store, artifactsOf, ctx);
  const { findings } = await store.check({ readData: true }, ctx);
  assert.deepEqual(
    findings.filter(({ severity }) => severity === 'error'),
    [],
  );

  await writeSnapshot(store, 3, artifactsOf(3), ctx);
  assert.deepEqual(await verifySnapshots(store, artifactsOf, ctx), [...published, 3]);
  for (const [blob, packs] of await indexedBlobs(left)) {
    if (known.has(blob)) assert.equal(packs.size, 1, `${blob} was indexed and was stored again`);
  }
  await store.unlock({ all: true }, ctx);
  const after = await store.check({ readData: true }, ctx);
  assert.deepEqual(
    after.findings.filter(({ severity }) => severity !== 'info'),
    [],
  );
}

async function stockResticCheck(storage: MemoryStorage): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'tars-crash-'));
  try {
    for (const [key, bytes] of storage.files) {
      const path = join(directory, key.replace(/^data\/(..)/, 'data/$1/$1'));
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, bytes);
    }
    const env = { ...process.env, RESTIC_PASSWORD: password, RESTIC_REPOSITORY: directory };
    const restic = (...args: string[]) => promisify(execFile)('restic', ['--no-cache', ...args], { env });
    await restic('unlock', '--remove-all');
    await restic('check', '--read-data');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

describe(`a crash at any storage call of two backups (seed ${seed})`, () => {
  const fresh = new MemoryStorage();
  const callCounts = new Map<Pace, number>();
  const callCountOf = (pace: Pace): number => callCounts.get(pace) ?? assert.fail(pace);

  before(async () => {
    await createCheapRepository(fresh, simulatedContext());
    for (const pace of paces) {
      const counting = new FaultyStorage(fresh.copy());
      await backUpTwice(counting, pace);
      callCounts.set(pace, counting.calls.length);
    }
  });

  // The very last call releases the lock, and a lock that stays behind is only warned about.
  const crashAt = (pace: Pace, crash: CrashPoint): Promise<MemoryStorage> =>
    leftByCrash(fresh, crash, (storage) => backUpTwice(storage, pace));

  /** Every call in a campaign; otherwise every third one, and the last. */
  const crashCalls = (callCount: number): number[] =>
    Array.from({ length: callCount }, (_, i) => i + 1).filter(
      (call) => call === callCount || call % counted(3, 1) === 0,
    );

  for (const pace of paces) {
    test(`${pace}: published snapshots are whole, the check is clean, the next backup goes on`, async (t) => {
      const callCount = callCountOf(pace);
      assert.ok(callCount > 20, `two backups make ${callCount} storage calls`);
      const calls = crashCalls(callCount);
      for (const callNumber of calls) {
        // What a call leaves that took effect is what the next one finds that does not.
        const effect = callNumber === callCount ? 'after' : 'before';
        try {
          await examineAndGoOn(await crashAt(pace, { callNumber, effect }));
        } catch (cause) {
          throw new Error(`Seed ${seed}: crash at call ${callNumber} of ${callCount}, ${effect}`, { cause });
        }
      }
      t.diagnostic(`${calls.length} crashes in ${callCount} calls`);
    });
  }

  test('a single call that fails leaves nothing wrong, whether or not it took effect', async (t) => {
    const callCount = callCountOf('hasty');
    const step = counted(5, 1);
    for (let callNumber = 1; callNumber <= callCount; callNumber += step) {
      const effect = callNumber % 2 === 0 ? 'after' : 'before';
      try {
        await examineAndGoOn(await crashAt('hasty', { callNumber, effect, passing: true }));
      } catch (cause) {
        throw new Error(`Seed ${seed}: call ${callNumber} of ${callCount} failed, ${effect}`, { cause });
      }
    }
    t.diagnostic(`${Math.ceil(callCount / step)} failures`);
  });

  test('stock restic finds nothing wrong either', async () => {
    const points = counted(4, 40);
    for (let i = 0; i < points; i += 1) {
      const pace = paces[i % 2] ?? 'hasty';
      const callNumber = 1 + Math.floor(((i + 0.5) * callCountOf(pace)) / points);
      await stockResticCheck(await crashAt(pace, { callNumber, effect: 'after' }));
    }
  });

  test('the fault is what it says', async () => {
    const storage = new FaultyStorage(fresh.copy(), { callNumber: 2, effect: 'before' });
    const signal = new AbortController().signal;
    await storage.stat({ type: 'config', name: '' }, signal);
    await assert.rejects(storage.stat({ type: 'config', name: '' }, signal), InjectedCrash);
    await assert.rejects(storage.stat({ type: 'config', name: '' }, signal), InjectedCrash);
    assert.ok(storage.fired);
  });
});
