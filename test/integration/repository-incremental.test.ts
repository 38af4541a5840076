import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { InterruptedError, RepositoryLockedError, TarsError } from '../../src/model/errors.ts';
import type { Bytes, FileIdentity, WriteOptions } from '../../src/ports/artifacts.ts';
import type { StorageBackend } from '../../src/ports/storage.ts';
import { acquireLock } from '../../src/repository/lock/lock.ts';
import { openRepository } from '../../src/repository/open.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { attributes, bytesOf, collect, label, manifestOf, never, seededBytes } from '../fixtures/archives.ts';
import { campaignSeed } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { publishSamples, writeSample, type Sample } from '../fixtures/repositories.ts';
import { MemoryStorage } from '../fixtures/storage.ts';
import { createCheapRepository, password } from '../simulation/stack-snapshots.ts';

const seed = campaignSeed;
const ctx = testContext();
const megabyte = 1 << 20;

const fresh = new MemoryStorage();
before(() => createCheapRepository(fresh, ctx));
const newRepository = (): MemoryStorage => fresh.copy();

const openStore = (storage: StorageBackend) => openSnapshotStore(storage, password, ctx, { workers: 1 });

test('a second snapshot of the same stores next to nothing', async () => {
  await using store = await openStore(newRepository());
  const samples: Sample[] = [
    { path: 'dump', content: seededBytes(seed, 3 * megabyte), chunking: 'stream' },
    { path: 'copy', content: seededBytes(seed, 3 * megabyte), chunking: 'stream' },
    { path: 'pages', content: seededBytes(seed + 1, 3 * megabyte), chunking: 'pages' },
  ];
  const first = await publishSamples(store, samples);
  assert.ok(first.addedBytes > 6 * megabyte && first.addedBytes < 6.2 * megabyte, `${first.addedBytes}`);
  const second = await publishSamples(store, samples);
  assert.ok(second.addedBytes < 10_000, `${second.addedBytes}`);
  assert.equal(second.newBlobs, 0);
  assert.ok(second.processedBytes > 9 * megabyte);
});

test('an insertion at the front of a dump and a change in pages store little', async () => {
  await using store = await openStore(newRepository());
  const dump = seededBytes(seed, 4 * megabyte);
  const pages = seededBytes(seed + 1, 4 * megabyte);
  await publishSamples(store, [
    { path: 'dump', content: dump, chunking: 'stream' },
    { path: 'pages', content: pages, chunking: 'pages' },
  ]);
  const changed = Buffer.from(pages);
  changed.fill(0, 2 * megabyte, 2 * megabyte + 100);
  const second = await publishSamples(store, [
    { path: 'dump', content: Buffer.concat([Buffer.from('inserted'), dump]), chunking: 'stream' },
    { path: 'pages', content: changed, chunking: 'pages' },
  ]);
  assert.ok(second.addedBytes < 350_000, `${second.addedBytes}`);
});

const identity: FileIdentity = {
  sizeBytes: 300_000,
  mtimeNs: 5n,
  ctimeNs: 1_600_000_000_000_000_001n,
  inode: 2n ** 63n + 5n,
};
const content = seededBytes(seed, identity.sizeBytes);
const modelOptions: WriteOptions = {
  attributes: attributes({ mtimeNs: identity.mtimeNs }),
  chunking: 'large',
  identity,
  signal: never,
};

test('an unchanged file is taken over without being read, any change of its identity prevents that', async () => {
  const storage = newRepository();
  await using store = await openStore(storage);
  {
    await using writer = await store.begin(label, ctx);
    assert.equal(await writer.reuse('model', identity), undefined, 'there is no parent yet');
    const artifact = await writer.write('model', bytesOf(content), modelOptions);
    await writer.publish(manifestOf([artifact]), ctx);
  }
  {
    await using writer = await store.begin(label, ctx);
    for (const changed of [
      { sizeBytes: 299_999 },
      { mtimeNs: 6n },
      { ctimeNs: 6n },
      { inode: 2n ** 63n + 6n },
    ]) {
      assert.equal(await writer.reuse('model', { ...identity, ...changed }), undefined);
    }
    assert.equal(await writer.reuse('other', identity), undefined);
    await using elsewhere = await store.begin({ ...label, hostname: 'clone' }, ctx);
    assert.equal(await elsewhere.reuse('model', identity), undefined, "another host's file is another file");
    const artifact = await writer.reuse('model', identity);
    assert.ok(artifact);
    assert.equal(artifact.chunking, 'fixed:8388608');
    const published = await writer.publish(manifestOf([artifact]), ctx);
    assert.equal(published.newBlobs, 0);
    assert.ok(published.processedBytes > identity.sizeBytes);
  }
  await using source = await store.open('latest', label, ctx);
  assert.ok((await collect(source.open('model', never))).equals(content));
});

test('a file that may have changed right after it was read, with the same time stamp, is read again', async () => {
  await using store = await openStore(newRepository());
  const startedNs = BigInt(Date.parse(manifestOf([]).startedAt)) * 1_000_000n;
  const marginNs = 2_000_000_000n;
  const times = {
    old: { mtimeNs: startedNs - marginNs - 1n, ctimeNs: startedNs - marginNs - 1n },
    written: { mtimeNs: startedNs - marginNs, ctimeNs: 5n },
    changed: { mtimeNs: 5n, ctimeNs: startedNs - marginNs },
    later: { mtimeNs: startedNs + marginNs, ctimeNs: startedNs + marginNs },
  };
  {
    await using writer = await store.begin(label, ctx);
    const artifacts = await Promise.all(
      Object.entries(times).map(([name, time]) =>
        writer.write(name, bytesOf(content), {
          ...modelOptions,
          attributes: attributes({ mtimeNs: time.mtimeNs }),
          identity: { ...identity, ...time },
        }),
      ),
    );
    await writer.publish(manifestOf(artifacts), ctx);
  }
  await using writer = await store.begin(label, ctx);
  const reused: string[] = [];
  for (const [name, time] of Object.entries(times)) {
    if (await writer.reuse(name, { ...identity, ...time })) reused.push(name);
  }
  assert.deepEqual(reused, ['old']);
});

test('a file whose blobs are gone is not taken over', async () => {
  const storage = newRepository();
  await using store = await openStore(storage);
  {
    await using writer = await store.begin(label, ctx);
    const artifact = await writer.write('model', bytesOf(content), modelOptions);
    await writer.publish(manifestOf([artifact]), ctx);
  }
  for (const key of storage.files.keys()) if (key.startsWith('index/')) storage.files.delete(key);
  const warnings: string[] = [];
  const noisy = { ...ctx, log: { ...ctx.log, warn: (text: string) => warnings.push(text) } };
  await using writer = await store.begin(label, noisy);
  assert.equal(await writer.reuse('model', identity), undefined);
  assert.match(warnings.join(), /is not used as the parent/);
});

test('what failed in a partial snapshot is still taken over from the complete one before', async () => {
  await using store = await openStore(newRepository());
  {
    await using writer = await store.begin(label, ctx);
    const artifact = await writer.write('model', bytesOf(content), modelOptions);
    await writer.publish(manifestOf([artifact]), ctx);
  }
  {
    await using writer = await store.begin(label, ctx);
    const manifest = { ...manifestOf([]), outcome: 'partial', time: '2026-11-25T00:00:00.000Z' } as const;
    const { summary } = await writer.publish(manifest, ctx);
    assert.deepEqual(summary.tags, ['tars', 'partial']);
  }
  await using writer = await store.begin(label, ctx);
  assert.ok(await writer.reuse('model', identity));
});

test('an abandoned run leaves no snapshot, and the next one does not store its blobs again', async () => {
  const storage = newRepository();
  await using store = await openStore(storage);
  const sample: Sample = { path: 'dump', content: seededBytes(seed, 40 * megabyte), chunking: 'large' };
  {
    await using writer = await store.begin(label, ctx);
    await writeSample(writer, sample);
    const storedPacks = (): number =>
      [...storage.files.keys()].filter((key) => key.startsWith('data/')).length;
    const deadline = performance.now() + 20_000;
    while (storedPacks() < 2) {
      assert.ok(performance.now() < deadline, 'two packs are stored');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  assert.deepEqual(await store.list(ctx), []);
  assert.equal([...storage.files.keys()].filter((key) => key.startsWith('locks/')).length, 0);
  const { addedBytes } = await publishSamples(store, [sample]);
  assert.ok(addedBytes < 26 * megabyte, `${addedBytes} of 40 MiB were stored again`);
});

test('a body that is longer or shorter than announced is refused, and its iterator closed', async () => {
  await using store = await openStore(newRepository());
  await using writer = await store.begin(label, ctx);
  for (const sizeBytes of [0, 299_999, 300_001]) {
    let closed = false;
    // eslint-disable-next-line @typescript-eslint/require-await
    const body = async function* (): Bytes {
      try {
        yield content.subarray(0, 200_000);
        yield content.subarray(200_000);
      } finally {
        closed = true;
      }
    };
    await assert.rejects(
      writer.write('dump', body(), {
        attributes: attributes(),
        chunking: 'stream',
        sizeBytes,
        signal: never,
      }),
      (error) => error instanceof TarsError && error.code === 'capture-failed' && /dump/.test(error.message),
    );
    assert.ok(closed);
  }
});

test('a source that fails fails its write only', async () => {
  await using store = await openStore(newRepository());
  await using writer = await store.begin(label, ctx);
  // eslint-disable-next-line @typescript-eslint/require-await
  const body = async function* (): Bytes {
    yield content;
    throw new TarsError('service-unavailable', 'Gone');
  };
  await assert.rejects(writer.write('a', body(), modelOptions), /Gone/);
  const artifact = await writer.write('b', bytesOf(content), modelOptions);
  await writer.publish(manifestOf([artifact]), ctx);
  await using source = await store.open('latest', label, ctx);
  const paths = await Array.fromAsync(source.entries('', never), ({ path }) => path);
  assert.deepEqual(paths, ['b', 'manifest.json']);
});

test('an interruption ends writes that wait for it, and publishing is refused after it', async () => {
  const storage = newRepository();
  const controller = new AbortController();
  const interrupted = testContext(controller.signal);
  await using store = await openStore(storage);
  await using writer = await store.begin(label, interrupted);
  // eslint-disable-next-line @typescript-eslint/require-await
  const endless = async function* (): Bytes {
    for (let i = 0; ; i++) {
      if (i === 20) controller.abort();
      yield seededBytes(seed + i, megabyte);
    }
  };
  await assert.rejects(writer.write('endless', endless(), modelOptions), InterruptedError);
  await assert.rejects(writer.publish(manifestOf([]), interrupted), InterruptedError);
  assert.deepEqual(await store.list(ctx), []);
});

test('paths that clash or lead out of the snapshot are refused', async () => {
  await using store = await openStore(newRepository());
  await using writer = await store.begin(label, ctx);
  await writer.symlink('a/link', 'x', attributes());
  await writer.directory('a', attributes());
  const attempts: [string, RegExp][] = [
    ['a/link', /already/],
    ['a/link/below', /not a directory/],
    ['a', /already/],
    ['../out', /not a path/],
    ['/absolute', /not a path/],
    ['', /not a path/],
  ];
  for (const [path, message] of attempts) await assert.rejects(writer.directory(path, attributes()), message);
});

test('nothing is begun under an exclusive lock', async () => {
  const storage = newRepository();
  const repository = await openRepository(storage, password, ctx);
  await using store = await openStore(storage);
  {
    await using held = await acquireLock(repository, { exclusive: true }, ctx);
    assert.equal(held.signal.aborted, false);
    await assert.rejects(store.begin(label, ctx), RepositoryLockedError);
    await assert.rejects(store.open('latest', undefined, ctx), RepositoryLockedError);
  }
  await using writer = await store.begin(label, ctx);
  assert.equal(writer.encrypted, true);
});
