import assert from 'node:assert/strict';
import { access, chmod, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { parsePruneLimits, pruneRepository } from '../../src/operations/retention/prune.ts';
import { TarsError } from '../../src/model/errors.ts';
import type { FileIdentity } from '../../src/ports/artifacts.ts';
import type { OperationContext } from '../../src/ports/context.ts';
import type { CheckReport, SnapshotStore } from '../../src/ports/snapshot-store.ts';
import { decodeIndex, type IndexedPack } from '../../src/repository/format/index-file.ts';
import { openRepository } from '../../src/repository/open.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { attributes, bytesOf, collect, label, manifestOf, never, seededBytes } from '../fixtures/archives.ts';
import { testContext } from '../fixtures/context.ts';
import { password, publishSamples, RepositoryDirectory, type Sample } from '../fixtures/repositories.ts';
import { stockRestics, systemRestic } from '../fixtures/restic.ts';
import { forgetSnapshot } from '../fixtures/snapshot-history.ts';

const thorough = parsePruneLimits({ maxUnused: '0' });
const model: Sample = { path: 'model', content: seededBytes(7, 300_000), chunking: 'pages' };
const notes: Sample = {
  path: 'notes',
  content: Buffer.from('a line of text\n'.repeat(9000)),
  chunking: 'small',
};
const identity: FileIdentity = {
  sizeBytes: model.content.length,
  mtimeNs: attributes().mtimeNs,
  ctimeNs: 2n,
  inode: 3n,
};

let published = 0;
let origin: RepositoryDirectory;
let directory: RepositoryDirectory;
let store: SnapshotStore;
let heard: string[];
let ctx: OperationContext;

before(async () => {
  origin = await RepositoryDirectory.created();
  await using first = await origin.store();
  await publish(first, testContext());
});
after(() => origin[Symbol.asyncDispose]());
beforeEach(async () => {
  directory = await RepositoryDirectory.copied(origin, systemRestic);
  store = await directory.store();
  heard = [];
  const quiet = testContext();
  ctx = { ...quiet, log: { ...quiet.log, warn: (text) => heard.push(text) } };
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

/** The model as a file that is recognised when it did not change, the notes as a stream. */
async function publish(into: SnapshotStore, context: OperationContext) {
  await using writer = await into.begin(label, context);
  const reused = await writer.reuse(model.path, identity);
  const artifacts = [
    reused ??
      (await writer.write(model.path, bytesOf(model.content, 99_991), {
        ...{ attributes: attributes(), identity, chunking: model.chunking, signal: never },
      })),
    await writer.write(notes.path, bytesOf(notes.content, 99_991), {
      ...{ attributes: attributes(), chunking: notes.chunking, signal: never },
    }),
  ];
  const manifest = manifestOf(artifacts);
  // Of snapshots of one time nobody knows which one is the newest, and the parent of the next.
  const time = new Date(Date.parse(manifest.time) + 60_000 * published++).toISOString();
  return { isReused: reused !== undefined, ...(await writer.publish({ ...manifest, time }, context)) };
}

async function indexedPacks(): Promise<IndexedPack[]> {
  const repository = await openRepository(createLocalStorage(directory.path), password, ctx);
  const names = await readdir(join(directory.path, 'index'));
  const files = names.map(async (name) =>
    decodeIndex(await repository.loadUnpacked('index', name, never), name),
  );
  return (await Promise.all(files)).flat();
}

const fileOf = ({ id }: IndexedPack): string => join(directory.path, 'data', id.slice(0, 2), id);
const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

const damages: Readonly<Record<string, (pack: IndexedPack) => Promise<void>>> = {
  missing: (pack) => rm(fileOf(pack)),
  truncated: async (pack) => {
    const bytes = await readFile(fileOf(pack));
    await replace(fileOf(pack), bytes.subarray(0, bytes.length / 2));
  },
  'flipped, as a check found': async (pack) => {
    const bytes = await readFile(fileOf(pack));
    const at = (pack.blobs[0]?.offsetBytes ?? 0) + 20;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await replace(fileOf(pack), bytes);
  },
};

async function replace(path: string, bytes: Uint8Array): Promise<void> {
  await chmod(path, 0o600);
  await writeFile(path, bytes);
}

const check = (readData = true): Promise<CheckReport> => store.check({ readData }, ctx);
const affectedIn = ({ findings }: CheckReport): string[] =>
  findings.filter(({ code }) => code === 'snapshot-affected').map(({ message }) => message);
const prune = () => pruneRepository(store, thorough, { dryRun: false }, ctx);

async function requireWhole(id: string, samples: readonly Sample[] = [model, notes]): Promise<void> {
  await using source = await store.open(id, undefined, ctx);
  for (const { path, content } of samples) {
    assert.ok(content.equals(await collect(source.open(path, never))), path);
  }
}

for (const [how, damage] of Object.entries(damages)) {
  for (const type of ['data', 'tree'] as const) {
    test(`${type} packs that are ${how} are stored again by the next backup, and a prune takes them out`, async () => {
      const damaged = (await indexedPacks()).filter(({ blobs }) => blobs[0]?.type === type);
      assert.ok(damaged.length > 0);
      for (const pack of damaged) await damage(pack);
      const report = await check();
      assert.equal(affectedIn(report).length, 1);

      const healed = await publish(store, ctx);
      assert.equal(healed.isReused, false);
      const [said = '', ...more] = heard.filter((text) => /This backup stores the data/.test(text));
      assert.deepEqual(more, []);
      assert.match(said, new RegExp(`^${damaged.length} packs? .*\\(${damaged[0]?.id.slice(0, 8)}`));
      await requireWhole(healed.summary.id);
      const again = await publish(store, ctx);
      assert.ok(again.isReused && again.newBlobs <= 1, 'what was stored again is relied on');
      // The first snapshot reads the new copies too; the damaged packs still lie there, for whoever can save them.
      // The manifest of the first snapshot alone is in no later backup: its time differs.
      if (type === 'data') {
        for (const lost of affectedIn(await check()))
          assert.match(lost, /completely: \/tars\/lab\/manifest\.json$/);
      }
      for (const pack of damaged) assert.equal(await exists(fileOf(pack)), how !== 'missing');

      for (const { id } of await store.list(ctx)) {
        if (affectedIn(await check()).some((message) => message.includes(id.slice(0, 8)))) {
          await forgetSnapshot(directory, id);
        }
      }
      await prune();
      for (const pack of damaged) assert.equal(await exists(fileOf(pack)), false);
      assert.deepEqual((await check()).findings, []);
      assert.deepEqual(await store.examinePacks(ctx), { missing: [], misfit: [], damaged: [] });
      await directory.restic(['check', '--read-data'], { stock: stockRestics.at(-1) ?? systemRestic });
      for (const { id } of await store.list(ctx)) await requireWhole(id);
    });
  }
}

test('what no backup can store again is named, keeps every pack, and goes with its snapshot', async () => {
  const [pack] = (await indexedPacks()).filter(({ blobs }) => blobs[0]?.type === 'data');
  assert.ok(pack);
  await damages['flipped, as a check found']?.(pack);
  await check();
  const other: Sample = { ...notes, path: 'other', content: seededBytes(9, 50_000) };
  const later = await publishSamples(store, [other]);
  const report = await check();
  assert.equal(affectedIn(report).length, 1);
  const lost = (await store.list(ctx)).find(({ id }) => affectedIn(report)[0]?.includes(id.slice(0, 8)));
  assert.ok(lost && lost.id !== later.summary.id);
  const before = await readdir(join(directory.path, 'data'), { recursive: true });
  await assert.rejects(prune(), /Nothing is pruned from a damaged repository/);
  assert.deepEqual(await readdir(join(directory.path, 'data'), { recursive: true }), before);
  await forgetSnapshot(directory, lost.id);
  await prune();
  assert.deepEqual((await check()).findings, []);
  for (const stock of stockRestics) await directory.restic(['check', '--read-data'], { stock });
  await requireWhole(later.summary.id, [other]);
});

test('of a damaged pack the prune saves what is whole', async () => {
  const [pack] = (await indexedPacks()).filter(({ blobs }) => blobs[0]?.type === 'data');
  assert.ok(pack);
  // Only its list of content is lost.
  const bytes = await readFile(fileOf(pack));
  await replace(fileOf(pack), bytes.subarray(0, -1));
  assert.deepEqual(affectedIn(await check()), []);
  await prune();
  assert.equal(await exists(fileOf(pack)), false);
  assert.deepEqual((await check()).findings, []);
  for (const { id } of await store.list(ctx)) await requireWhole(id);
});

test('a pack that was put back is sound again, and the next prune relies on it', async () => {
  const [pack] = (await indexedPacks()).filter(({ blobs }) => blobs[0]?.type === 'data');
  assert.ok(pack);
  const bytes = await readFile(fileOf(pack));
  await damages['flipped, as a check found']?.(pack);
  await check();
  await replace(fileOf(pack), bytes);
  // Also without reading everything: what was found damaged is looked at again.
  const report = await check(false);
  assert.deepEqual(
    report.findings.map(({ severity, code }) => `${severity} ${code}`),
    ['info pack-sound-again'],
  );
  assert.deepEqual((await store.examinePacks(ctx)).damaged, [pack.id]);
  await prune();
  assert.ok(await exists(fileOf(pack)));
  assert.deepEqual((await store.examinePacks(ctx)).damaged, []);
  assert.deepEqual((await check()).findings, []);
});

describe('beside stock restic', () => {
  for (const stock of stockRestics) {
    test(`restic ${stock.version} passes over the record of what is damaged`, async () => {
      const [pack] = (await indexedPacks()).filter(({ blobs }) => blobs[0]?.type === 'data');
      assert.ok(pack);
      const bytes = await readFile(fileOf(pack));
      await damages['flipped, as a check found']?.(pack);
      await check();
      await replace(fileOf(pack), bytes);
      const target = join(directory.root, 'restored');
      await directory.restic(['restore', 'latest', '--target', target], { stock });
      await directory.restic(['backup', target], { stock });
      await directory.restic(['check', '--read-data'], { stock });
      await directory.restic(['prune'], { stock });
      await directory.restic(['check', '--read-data'], { stock });
      assert.deepEqual(affectedIn(await check()), []);
    });
  }
});

test('a pack that cannot be read is not called damaged, and backups rely on it', async () => {
  const [pack] = (await indexedPacks()).filter(({ blobs }) => blobs[0]?.type === 'data');
  assert.ok(pack);
  const storage = createLocalStorage(directory.path);
  const load = storage.load.bind(storage);
  storage.load = (file, range, signal) =>
    file.name === pack.id
      ? Promise.reject(new TarsError('storage-failed', 'EIO: i/o error, read'))
      : load(file, range, signal);
  await using failing = await openSnapshotStore(storage, password, ctx);
  const { findings } = await failing.check({ readData: true }, ctx);
  assert.deepEqual(
    findings.map(({ code }) => code),
    ['pack-unreadable'],
  );
  assert.doesNotMatch(findings[0]?.message ?? '', /damage/);
  assert.deepEqual((await store.examinePacks(ctx)).damaged, []);
});
