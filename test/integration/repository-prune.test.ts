import assert from 'node:assert/strict';
import { chmod, cp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { CorruptionError } from '../../src/model/errors.ts';
import {
  parsePruneLimits,
  pruneRepository,
  type PruneOutcome,
} from '../../src/operations/retention/prune.ts';
import type { PruneLimits } from '../../src/ports/prune.ts';
import { decodeIndex, encodeIndex, type IndexedPack } from '../../src/repository/format/index-file.ts';
import { openRepository, type OpenedRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { campaignSeed } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { password, RepositoryDirectory } from '../fixtures/repositories.ts';
import { systemRestic } from '../fixtures/restic.ts';
import { forgetSnapshot, packBytes, SnapshotHistory } from '../fixtures/snapshot-history.ts';

const ctx = testContext();
const thorough = parsePruneLimits({ maxUnused: '0' });
const history = new SnapshotHistory({ pagesBytes: 1 << 20, modelBytes: 1 << 19, modelLife: 2 }, campaignSeed);

/** Three snapshots with packs of their own; the first is forgotten. */
let origin: RepositoryDirectory;
let directory: RepositoryDirectory;

before(async () => {
  origin = await RepositoryDirectory.created();
  await using store = await origin.store();
  const first = await history.publish(store);
  for (let i = 0; i < 2; i++) await history.publish(store);
  await forgetSnapshot(origin, first);
});
after(() => origin[Symbol.asyncDispose]());
beforeEach(async () => {
  directory = await RepositoryDirectory.copied(origin, systemRestic);
});
afterEach(() => directory[Symbol.asyncDispose]());

const inRepository = (...names: string[]): string => join(directory.path, ...names);
const opened = (): Promise<OpenedRepository> =>
  openRepository(createLocalStorage(directory.path), password, ctx);

async function filesUnder(type: string): Promise<string[]> {
  const entries = await readdir(inRepository(type), { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
}
const everything = async (): Promise<string[]> =>
  (await Promise.all(['data', 'index', 'snapshots', 'keys'].map(filesUnder))).flat().sort();

async function prune(limits: PruneLimits = thorough): Promise<PruneOutcome> {
  await using store = await directory.store();
  return await pruneRepository(store, limits, { dryRun: false }, ctx);
}

/** Nothing is deleted, and the error says so and matches. */
async function refuses(message: RegExp): Promise<void> {
  const before = await everything();
  await assert.rejects(prune(), (error) => {
    assert.ok(error instanceof CorruptionError, String(error));
    assert.match(error.message, message);
    assert.match(error.hint ?? '', /No data was deleted.*tars check/);
    return true;
  });
  assert.deepEqual(await everything(), before);
  assert.deepEqual(await readdir(inRepository('locks')), []);
}

async function flipByte(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await chmod(path, 0o600);
  await writeFile(path, bytes);
}

/** The pack that most snapshots need: the largest. */
async function largestPack(): Promise<string> {
  const packs = await filesUnder('data');
  const sizes = await Promise.all(packs.map(async (path) => ({ path, size: (await stat(path)).size })));
  return sizes.reduce((a, b) => (b.size > a.size ? b : a)).path;
}

describe('a prune deletes nothing of a repository that cannot be seen whole', () => {
  test('a damaged snapshot', async () => {
    const [path = ''] = await filesUnder('snapshots');
    await flipByte(path, 60);
    await refuses(/snapshot [0-9a-f]{64}/);
  });

  test('a damaged tree', async () => {
    const repo = await opened();
    const [name = ''] = await readdir(inRepository('snapshots'));
    const { tree } = JSON.parse(await repo.loadUnpacked('snapshots', name, ctx.signal)) as { tree: string };
    for (const index of await readdir(inRepository('index'))) {
      for (const { id, blobs } of decodeIndex(await repo.loadUnpacked('index', index, ctx.signal), index)) {
        const blob = blobs.find((candidate) => candidate.id === tree);
        if (blob) await flipByte(inRepository('data', id.slice(0, 2), id), blob.offsetBytes + 20);
      }
    }
    await refuses(new RegExp(`Snapshot ${name.slice(0, 8)} is incomplete: .*${tree}`));
  });

  test('a damaged index', async () => {
    const [path = ''] = await filesUnder('index');
    await flipByte(path, 60);
    await refuses(/index [0-9a-f]{64}/);
  });

  test('a missing index', async () => {
    for (const path of await filesUnder('index')) await rm(path);
    await refuses(/blob [0-9a-f]{64} is (in no index|missing)/);
  });

  test('a missing pack', async () => {
    await rm(await largestPack());
    await refuses(/Pack [0-9a-f]{64} is missing, and snapshots need data that only this pack had/);
  });

  test('a truncated pack', async () => {
    const path = await largestPack();
    const bytes = await readFile(path);
    await chmod(path, 0o600);
    await writeFile(path, bytes.subarray(0, bytes.length / 2));
    await refuses(/Pack [0-9a-f]{64} is damaged, and snapshots need data that only this pack had/);
  });

  test('a pack that indexes describe differently', async () => {
    const repo = await opened();
    const packs: IndexedPack[] = [];
    for (const name of await readdir(inRepository('index'))) {
      packs.push(...decodeIndex(await repo.loadUnpacked('index', name, ctx.signal), name));
    }
    // Not the first one, which depends on random names.
    const pack = packs.reduce((most, other) => (other.blobs.length > most.blobs.length ? other : most));
    assert.ok(pack.blobs.length > 1);
    await repo.saveUnpacked('index', encodeIndex([{ ...pack, blobs: pack.blobs.slice(1) }]), ctx.signal);
    await refuses(/describe pack .* differently/);
  });
});

test('a blob that is damaged where it must be moved from stops the prune before anything is deleted', async () => {
  const { plan } = await dryRun();
  assert.ok(plan.packs.repack > 0);
  // All data, whatever is repacked; trees stay readable.
  const repo = await opened();
  for (const name of await readdir(inRepository('index'))) {
    for (const { id, blobs } of decodeIndex(await repo.loadUnpacked('index', name, ctx.signal), name)) {
      for (const { type, offsetBytes } of blobs) {
        if (type === 'data') await flipByte(inRepository('data', id.slice(0, 2), id), offsetBytes + 20);
      }
    }
  }
  const before = await everything();
  await assert.rejects(prune(), (error) => {
    assert.ok(error instanceof CorruptionError, String(error));
    assert.match(error.message, /The prune stopped: \d+ blobs that snapshots need could not be read/);
    assert.match(error.hint ?? '', /--max-repack-size 0/);
    return true;
  });
  const after = new Set(await everything());
  assert.ok(before.every((path) => after.has(path)));
  const { done } = await prune(parsePruneLimits({ maxRepackSize: '0' }));
  assert.equal(done?.writtenBytes, 0);
});

async function dryRun(): Promise<PruneOutcome> {
  await using store = await directory.store();
  return await pruneRepository(store, thorough, { dryRun: true }, ctx);
}

test('a plan changes nothing, is carried out once, and holds the lock until it is disposed', async () => {
  const before = await everything();
  const { plan, done } = await dryRun();
  assert.equal(done, undefined);
  assert.ok(plan.freedBytes > 0 && plan.snapshots === 2);
  assert.deepEqual(await everything(), before);
  await using store = await directory.store();
  {
    await using made = await store.planPrune(thorough, ctx);
    assert.deepEqual(made.report, plan);
    assert.equal((await readdir(inRepository('locks'))).length, 1);
    const result = await made.execute(ctx);
    assert.ok(Math.abs(result.freedBytes - plan.freedBytes) < plan.freedBytes / 50);
    await assert.rejects(made.execute(ctx), /already executed/);
  }
  assert.deepEqual(await readdir(inRepository('locks')), []);
  assert.equal(await history.verify(store), 2);
  assert.deepEqual((await store.check({ readData: true }, ctx)).findings, []);
});

test('blobs are moved sealed as they are; those that are there twice are so no longer', async () => {
  const old = await Promise.all((await filesUnder('data')).map((path) => readFile(path)));
  const { done } = await prune();
  assert.ok((done?.writtenBytes ?? 0) > 0);
  const cleanBytes = await packBytes(directory);
  for (const path of await filesUnder('data')) {
    const firstBytes = (await readFile(path)).subarray(0, 64);
    assert.ok(
      old.some((pack) => pack.includes(firstBytes)),
      'a blob was sealed anew',
    );
  }
  // As if it had been cut off right before it deleted.
  for (const folder of ['data', 'index']) {
    await cp(join(origin.path, folder), inRepository(folder), { recursive: true });
  }
  assert.ok((await packBytes(directory)) > cleanBytes * 1.2);
  const again = await prune();
  assert.ok(Math.abs((await packBytes(directory)) / cleanBytes - 1) < 0.01);
  assert.equal(again.done?.writtenBytes, 0, 'what was repacked already was repacked again');
  await using store = await directory.store();
  assert.equal(await history.verify(store), 2);
  assert.deepEqual((await store.check({ readData: true }, ctx)).findings, []);
});

test('without any snapshot nothing is removed, and it says why', async () => {
  for (const name of await readdir(inRepository('snapshots'))) await forgetSnapshot(directory, name);
  const before = await everything();
  const warnings: string[] = [];
  const log = { ...ctx.log, warn: (text: string) => void warnings.push(text) };
  await using store = await directory.store();
  const { done } = await pruneRepository(store, thorough, { dryRun: false }, { ...ctx, log });
  assert.equal(done?.removedPacks, 0);
  assert.match(warnings.join(), /There is no snapshot .* may be missing by mistake/);
  assert.deepEqual(await everything(), before);
});
