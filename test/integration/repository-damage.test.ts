import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptionError, InterruptedError, TarsError } from '../../src/model/errors.ts';
import type { SnapshotOwner } from '../../src/model/snapshot.ts';
import type { SnapshotSource } from '../../src/ports/snapshot-store.ts';
import { decodeIndex, type IndexedPack } from '../../src/repository/format/index-file.ts';
import { openRepository, sha256Hex } from '../../src/repository/open.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { collect, label, never, seededBytes } from '../fixtures/archives.ts';
import { campaignSeed, counted, seededRandom } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { publishSamples, type Sample } from '../fixtures/repositories.ts';
import { MemoryStorage } from '../fixtures/storage.ts';
import { createCheapRepository, password } from '../simulation/stack-snapshots.ts';

const seed = campaignSeed;
const ctx = testContext();
const samples: readonly Sample[] = [
  { path: 'random', content: seededBytes(seed, 800_000), chunking: 'stream' },
  { path: 'text', content: Buffer.from('a line of text\n'.repeat(20_000)), chunking: 'pages' },
];

let made: Promise<MemoryStorage> | undefined;

/** A copy of its own for every test. */
async function repositoryWithSnapshot(): Promise<MemoryStorage> {
  made ??= makeRepository();
  return (await made).copy();
}

async function makeRepository(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  await createCheapRepository(storage, ctx);
  await using store = await openSnapshotStore(storage, password, ctx, { workers: 1 });
  await publishSamples(store, samples);
  return storage;
}

async function indexedPacks(storage: MemoryStorage): Promise<IndexedPack[]> {
  const repository = await openRepository(storage, password, ctx);
  const files = await Array.fromAsync(storage.list('index', never), async ({ name }) =>
    decodeIndex(await repository.loadUnpacked('index', name, never), name),
  );
  return files.flat();
}

async function readManifest(storage: MemoryStorage): Promise<Buffer> {
  await using store = await openSnapshotStore(storage, password, ctx);
  await using source = await store.open('latest', undefined, ctx);
  return await collect(source.open('manifest.json', never));
}

/** Reads until it fails; what was handed out by then must be a true beginning of the content. */
async function readUntilFailure(source: SnapshotSource, { path, content }: Sample): Promise<unknown> {
  let at = 0;
  try {
    for await (const chunk of source.open(path, never)) {
      assert.ok(content.subarray(at, at + chunk.length).equals(chunk), `wrong bytes of ${path} at ${at}`);
      at += chunk.length;
    }
  } catch (error) {
    return error;
  }
  assert.equal(at, content.length);
  return undefined;
}

test(`a flipped bit anywhere in a blob is refused before its bytes are out (seed ${seed})`, async () => {
  const storage = await repositoryWithSnapshot();
  const packs = await indexedPacks(storage);
  const blobs = packs.flatMap(({ id, blobs }) => blobs.map((blob) => ({ pack: id, ...blob })));
  // The manifest's blob is not needed by these files.
  const manifestBlob = sha256Hex(await readManifest(storage));
  const data = blobs.filter(({ type, id }) => type === 'data' && id !== manifestBlob);
  assert.ok(data.length > 15, `${data.length} blobs`);
  await using store = await openSnapshotStore(storage, password, ctx);
  await using source = await store.open('latest', undefined, ctx);
  const random = seededRandom(seed);
  for (const blob of data.slice(0, counted(12, data.length))) {
    const file = storage.files.get(`data/${blob.pack}`);
    assert.ok(file);
    const at = blob.offsetBytes + Math.floor(random() * blob.lengthBytes);
    const bit = 1 << Math.floor(random() * 8);
    file[at]! ^= bit;
    const failures = await Promise.all([...samples].map((sample) => readUntilFailure(source, sample)));
    file[at]! ^= bit;
    assert.ok(
      failures.some((failure) => failure instanceof CorruptionError),
      `seed ${seed}, blob ${blob.id}, byte ${at}`,
    );
  }
});

test('a blob that no index has is refused before anything is handed out', async () => {
  const storage = await repositoryWithSnapshot();
  for (const key of storage.files.keys()) if (key.startsWith('index/')) storage.files.delete(key);
  await using store = await openSnapshotStore(storage, password, ctx);
  await using source = await store.open('latest', undefined, ctx);
  await assert.rejects(source.manifest(never), (error) => {
    return error instanceof CorruptionError && /missing/.test(error.message) && error.hint !== undefined;
  });
});

test('a truncated pack, a foreign index, a damaged snapshot', async () => {
  const storage = await repositoryWithSnapshot();
  const [data] = (await indexedPacks(storage)).filter(({ blobs }) =>
    blobs.some(({ type }) => type === 'data'),
  );
  const key = `data/${data?.id ?? ''}`;
  storage.files.set(key, storage.files.get(key)?.subarray(0, 100) ?? Buffer.of());
  const store = await openSnapshotStore(storage, password, ctx);
  {
    await using source = await store.open('latest', undefined, ctx);
    const [sample] = samples;
    assert.ok(sample);
    assert.ok((await readUntilFailure(source, sample)) instanceof CorruptionError);
  }
  storage.files.set(`index/${'0'.repeat(64)}`, Buffer.from('not an index'));
  await assert.rejects(store.open('latest', undefined, ctx), CorruptionError);
  storage.files.delete(`index/${'0'.repeat(64)}`);
  storage.files.set(`snapshots/${'0'.repeat(64)}`, Buffer.from('not a snapshot'));
  assert.equal((await store.list(ctx)).length, 1, 'the good one is still listed');
  await assert.rejects(store.open('0000', undefined, ctx), CorruptionError);
});

test('references: unknown, ambiguous, of another stack', async () => {
  const storage = await repositoryWithSnapshot();
  await using store = await openSnapshotStore(storage, password, ctx);
  while (
    (await store.list(ctx)).length < 2 ||
    (await prefixesOf(store)).size === (await store.list(ctx)).length
  ) {
    await publishSamples(store, []);
  }
  const ids = (await store.list(ctx)).map(({ id }) => id[0] ?? '');
  const ambiguous = ids.find((digit, i) => ids.indexOf(digit) !== i) ?? '';
  const cases: [string, SnapshotOwner | undefined, RegExp][] = [
    [ambiguous, undefined, /beginning of \d+ snapshot ids/],
    ['not hex', undefined, /no snapshot "not hex"/],
    ['latest', { ...label, stack: 'other' }, /no snapshot of stack "other" on host "box"/],
    ['latest', { ...label, hostname: 'nas' }, /no snapshot of stack "lab" on host "nas"/],
  ];
  for (const [reference, owner, message] of cases) {
    await assert.rejects(store.open(reference, owner, ctx), (error) => {
      return error instanceof TarsError && error.code === 'snapshot-not-found' && message.test(error.message);
    });
  }
});

async function prefixesOf(
  store: Awaited<ReturnType<typeof openSnapshotStore>>,
): Promise<Set<string | undefined>> {
  return new Set((await store.list(ctx)).map(({ id }) => id[0]));
}

test('reading stops when it is interrupted', async () => {
  const storage = await repositoryWithSnapshot();
  await using store = await openSnapshotStore(storage, password, ctx);
  await using source = await store.open('latest', undefined, ctx);
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (const chunk of source.open('random', controller.signal)) {
      assert.ok(chunk.length > 0);
      controller.abort();
    }
  }, InterruptedError);
});
