import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { ManifestArtifact } from '../../src/model/manifest.ts';
import type { FileIdentity } from '../../src/ports/artifacts.ts';
import type { StorageBackend, StorageFile } from '../../src/ports/storage.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { attributes, bytesOf, label, manifestOf, never, writeOptions } from '../fixtures/archives.ts';
import { counted } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { MemoryStorage } from '../fixtures/storage.ts';
import { createCheapRepository, password } from '../simulation/stack-snapshots.ts';

const ctx = testContext();
const perDirectory = 3;
const directories = counted(150, 40_000);

/** Counts what is asked of a storage. */
class CountingStorage implements StorageBackend {
  readonly location = 'counting';
  packReads = 0;
  packReadBytes = 0;
  readonly #inner = new MemoryStorage();

  create: StorageBackend['create'] = (signal) => this.#inner.create(signal);
  save: StorageBackend['save'] = (file, content, signal) => this.#inner.save(file, content, signal);
  stat: StorageBackend['stat'] = (file, signal) => this.#inner.stat(file, signal);
  list: StorageBackend['list'] = (type, signal) => this.#inner.list(type, signal);
  remove: StorageBackend['remove'] = (file, signal) => this.#inner.remove(file, signal);
  removeUnfinished: StorageBackend['removeUnfinished'] = (signal) => this.#inner.removeUnfinished(signal);

  async load(
    file: StorageFile,
    range: { offsetBytes: number; lengthBytes: number } | undefined,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const bytes = await this.#inner.load(file, range, signal);
    if (file.type === 'data') {
      this.packReads++;
      this.packReadBytes += bytes.length;
    }
    return bytes;
  }
}

const storage = new CountingStorage();
before(() => createCheapRepository(storage, ctx));

const pathOf = (directory: number, file: number): string =>
  `store/d${String(directory >> 6).padStart(4, '0')}/e${String(directory & 63).padStart(2, '0')}/f${file}`;
const bodyOf = (path: string): Buffer => Buffer.from(`${path}\n`.repeat(10));
const identityOf = (path: string, inode: number): FileIdentity => ({
  sizeBytes: bodyOf(path).length,
  mtimeNs: 1n,
  ctimeNs: 2n,
  inode: BigInt(inode + 1),
});

/** Every file in the order of a walk; whoever is through with a directory says so. */
async function eachFile(
  visit: (path: string, identity: FileIdentity) => Promise<void>,
  finish: (directory: string) => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  for (let directory = 0; directory < directories; directory++) {
    for (let file = 0; file < perDirectory; file++) {
      const path = pathOf(directory, file);
      await visit(path, identityOf(path, directory * perDirectory + file));
    }
    await finish(pathOf(directory, 0).split('/').slice(0, 3).join('/'));
    if ((directory & 63) === 63) await finish(pathOf(directory, 0).split('/').slice(0, 2).join('/'));
  }
}

/** How often packs were read meanwhile. */
async function readsOf(work: () => Promise<void>): Promise<number> {
  const before = storage.packReads;
  await work();
  return storage.packReads - before;
}

test('files in many directories are written, found unchanged and read with few reads of packs', async (t) => {
  await using store = await openSnapshotStore(storage, password, ctx, { workers: 2 });
  const artifacts: ManifestArtifact[] = [];
  const publish = async (
    visit: (path: string, identity: FileIdentity) => Promise<void>,
    finish: (directory: string) => Promise<void>,
    writer: Awaited<ReturnType<typeof store.begin>>,
  ): Promise<void> => {
    await eachFile(visit, finish);
    await writer.publish(manifestOf(artifacts), ctx);
  };
  {
    await using writer = await store.begin(label, ctx);
    const write = async (path: string, identity: FileIdentity): Promise<void> => {
      const options = {
        ...writeOptions(identity.sizeBytes),
        attributes: attributes({ mtimeNs: 1n }),
        identity,
      };
      artifacts.push(await writer.write(path, bytesOf(bodyOf(path)), options));
    };
    await publish(write, (directory) => writer.finish(directory), writer);
  }
  // A window holds some hundreds of trees or small files; what is read alone are the first ones of each pack.
  const windows = Math.ceil((directories * perDirectory) / 300);
  const most = 20 + 8 * windows;

  const unchanged = await readsOf(async () => {
    await using writer = await store.begin(label, ctx);
    const reuse = async (path: string, identity: FileIdentity): Promise<void> => {
      assert.ok(await writer.reuse(path, identity), path);
    };
    await publish(reuse, (directory) => writer.finish(directory), writer);
  });
  t.diagnostic(`unchanged: ${unchanged} reads for ${directories} directories`);
  assert.ok(unchanged <= most, `${unchanged} reads of packs for an unchanged backup, not ${most}`);

  await using source = await store.open('latest', label, ctx);
  const restored = await readsOf(async () => {
    let files = 0;
    for await (const { path, type } of source.entries('store', never)) {
      if (type !== 'file') continue;
      files++;
      const [first] = await Array.fromAsync(source.open(path, never));
      assert.ok(bodyOf(path).equals(first ?? Buffer.alloc(0)), path);
    }
    assert.equal(files, directories * perDirectory);
  });
  t.diagnostic(`restore: ${restored} reads for ${directories * perDirectory} files`);
  assert.ok(restored <= most, `${restored} reads of packs for a restore, not ${most}`);
  const storedBytes = artifacts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  assert.ok(storage.packReadBytes < 8 * (storedBytes + directories * 4096), `${storage.packReadBytes} bytes`);
});
