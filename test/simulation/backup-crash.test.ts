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
const hastyContext = () => simulatedContext({ hasty: true });

/** One process: opens the repository and backs up twice. */
async function backUpTwice(storage: StorageBackend): Promise<void> {
  const ctx = hastyContext();
  await using store = await openSnapshotStore(storage, password, ctx, tuning);
  await writeSnapshot(store, 1, artifactsOf(1), ctx);
  await writeSnapshot(store, 2, artifactsOf(2), ctx);
}

/** Every blob that some index file has, as `type id pack`. */
async function indexedBlobs(storage: StorageBackend): Promise<Map<string, Set<string>>> {
  const ctx = hastyContext();
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
  const ctx = hastyContext();
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

describe(`a crash at every storage call of two backups (seed ${seed})`, () => {
  const fresh = new MemoryStorage();
  let callCount = 0;

  before(async () => {
    await createCheapRepository(fresh, hastyContext());
    const counting = new FaultyStorage(fresh.copy());
    await backUpTwice(counting);
    callCount = counting.calls.length;
  });

  /** Crashes there, and returns what is left. */
  const crashAt = async (crash: CrashPoint): Promise<MemoryStorage> => {
    const memory = fresh.copy();
    const storage = new FaultyStorage(memory, crash);
    await assert.rejects(
      backUpTwice(storage).then(() => assert.ok(!storage.fired)),
      (error) => {
        return storage.fired || assert.fail(`the fault did not fire: ${String(error)}`);
      },
    );
    assert.ok(storage.fired, 'the fault did not fire');
    return memory;
  };

  test('published snapshots are whole, the check is clean, the next backup goes on', async (t) => {
    assert.ok(callCount > 20, `two backups make ${callCount} storage calls`);
    let restored = 0;
    for (let callNumber = 1; callNumber <= callCount; callNumber += 1) {
      for (const effect of ['before', 'after'] as const) {
        const left = await crashAt({ callNumber, effect });
        try {
          await examineAndGoOn(left.copy());
          restored += 1;
        } catch (cause) {
          throw new Error(`Seed ${seed}: crash at call ${callNumber} of ${callCount}, ${effect}`, { cause });
        }
      }
    }
    assert.equal(restored, callCount * 2);
    t.diagnostic(`${restored} crashes`);
  });

  test('stock restic finds nothing wrong either', async () => {
    const points = counted(6, 40);
    for (let i = 0; i < points; i += 1) {
      const callNumber = 1 + Math.floor(((i + 0.5) * callCount) / points);
      await stockResticCheck(await crashAt({ callNumber, effect: i % 2 === 0 ? 'after' : 'before' }));
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
