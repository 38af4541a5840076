import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openArchive, verifyArchive } from '../../src/archive/read.ts';
import { createArchiveDestination } from '../../src/archive/write.ts';
import { artifactsOf, artifactTotals, collectArtifacts } from '../../src/model/artifact-list.ts';
import { TarsError } from '../../src/model/errors.ts';
import { manifestMaxBytes, pathMaxBytes } from '../../src/model/limits.ts';
import type { ComponentManifest, Manifest } from '../../src/model/manifest.ts';
import { captureAll } from '../../src/operations/backup/capture-all.ts';
import { verifyArtifacts } from '../../src/operations/verify/artifacts.ts';
import type { ArtifactSink, FileIdentity } from '../../src/ports/artifacts.ts';
import type { Component, PreparedCapture } from '../../src/ports/component.ts';
import type { SnapshotDestination, SnapshotWriter } from '../../src/ports/snapshot-store.ts';
import type { StorageBackend, StorageFile } from '../../src/ports/storage.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import {
  attributes,
  bytesOf,
  collect,
  label,
  manifestOf,
  never,
  writeOptions,
} from '../fixtures/archives.ts';
import { testContext } from '../fixtures/context.ts';
import { MemoryStorage } from '../fixtures/storage.ts';
import { createCheapRepository, password } from '../simulation/stack-snapshots.ts';

const ctx = testContext();
const many = 1050;

const nameOf = (i: number): string => `files/d${String(i % 50).padStart(2, '0')}/f${i}\udcff`;
const bodyOf = (i: number): Buffer => Buffer.from(`file ${i}`);
const identityOf = (i: number): FileIdentity => ({
  sizeBytes: bodyOf(i).length,
  mtimeNs: 1n,
  ctimeNs: BigInt(i),
  inode: BigInt(i + 1),
});

/** What a component does with a sink; our own port, so a double. */
function capturing(capture: (sink: ArtifactSink) => Promise<void>): PreparedCapture {
  return {
    pointInTime: 'own',
    mark: () => Promise.resolve(),
    settle: () => Promise.resolve(),
    async capture(sink) {
      await capture(sink);
      return { serverVersion: undefined, method: 'copy', writesBlockedMs: 0, facts: {} };
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Files that are written, or taken over where the parent has them; eight at a time. */
async function writeFiles(sink: ArtifactSink, count: number, reused: string[] = []): Promise<void> {
  for (let from = 0; from < count; from += 8) {
    const some = Array.from({ length: Math.min(8, count - from) }, (_, i) => from + i);
    await Promise.all(
      some.map(async (i) => {
        const [path, identity] = [nameOf(i), identityOf(i)];
        if ((await sink.reuse(path, identity)) !== undefined) reused.push(path);
        else
          await sink.write(path, bytesOf(bodyOf(i)), {
            ...writeOptions(bodyOf(i).length),
            attributes: attributes({ mtimeNs: 1n }),
            identity,
          });
      }),
    );
  }
}

/** What a backup publishes of one component that captures like that. */
async function publish(
  writer: SnapshotWriter,
  capture: (sink: ArtifactSink) => Promise<void>,
  time = '2026-11-24T00:00:00.000Z',
): Promise<{ readonly manifest: Manifest; readonly failed: ReadonlyMap<string, TarsError> }> {
  const component = { name: 'files', kind: 'files' } as Component;
  const failed = new Map<string, TarsError>();
  const captures = new Map([['files', capturing(capture)]]);
  const components = await captureAll([component], captures, failed, writer, ctx);
  const manifest: Manifest = { ...manifestOf([]), time, schemaVersion: 2, components };
  await writer.publish(manifest, ctx);
  return { manifest, failed };
}

const only = ({ components: [component] }: Manifest): ComponentManifest => {
  assert.ok(component);
  return component;
};

describe('a component with more artifacts than the manifest lists', () => {
  let root: string;
  let scratchDir: string;
  const fresh = new MemoryStorage();
  before(async () => {
    await createCheapRepository(fresh, ctx);
    root = await mkdtemp(join(tmpdir(), 'tars-lists-'));
    scratchDir = join(root, 'scratch');
  });
  after(() => rm(root, { recursive: true, force: true }));

  const openStore = (storage: StorageBackend) => openSnapshotStore(storage, password, ctx, { workers: 1 });
  const archives = (name: string): SnapshotDestination =>
    createArchiveDestination({ outputDir: join(root, name), compression: 'none', scratchDir });
  const archiveIn = async (name: string): Promise<string> =>
    join(root, name, (await readdir(join(root, name))).find((each) => each.endsWith('.tar')) ?? '');

  test('has a list beside it, which is read as it was written, and is the parent of the next', async () => {
    await using store = await openStore(fresh.copy());
    {
      await using writer = await store.begin(label, ctx);
      await publish(writer, (sink) => writeFiles(sink, many));
    }
    await using source = await store.open('latest', label, ctx);
    const component = only(await source.manifest(never));
    assert.deepEqual(component.artifacts, []);
    assert.equal(component.artifactList?.path, 'manifest.d/files.jsonl');
    assert.equal(artifactTotals(component).count, many);
    const artifacts = await collectArtifacts(component, source, never);
    const expected = Array.from({ length: many }, (_, i) => nameOf(i));
    assert.deepEqual(artifacts.map(({ path }) => path).sort(), expected.sort());
    const streamed = artifactsOf(component, source, never);
    assert.deepEqual(await verifyArtifacts(source, streamed, artifactTotals(component).sizeBytes, ctx), []);

    const reused: string[] = [];
    const later = '2026-11-25T00:00:00.000Z';
    {
      await using writer = await store.begin(label, ctx);
      await publish(writer, (sink) => writeFiles(sink, many + 10, reused), later);
    }
    assert.equal(reused.length, many);
    await using second = await store.open('latest', label, ctx);
    const again = await collectArtifacts(only(await second.manifest(never)), second, never);
    const byPath = new Map(again.map((artifact) => [artifact.path, artifact]));
    for (const artifact of artifacts) assert.deepEqual(byPath.get(artifact.path), artifact);
  });

  test('has one in an archive too, where files that nobody lists are still found', async () => {
    {
      await using writer = await archives('sound').begin(label, ctx);
      await publish(writer, (sink) => writeFiles(sink, many));
    }
    const file = await archiveIn('sound');
    assert.deepEqual(await verifyArchive(file, { scratchDir }, ctx), []);
    await using source = await openArchive(file, { scratchDir }, ctx);
    const component = only(await source.manifest(never));
    assert.equal((await collectArtifacts(component, source, never)).length, many);
    assert.ok((await collect(source.open(nameOf(7), never))).equals(bodyOf(7)));

    {
      await using writer = await archives('strange').begin(label, ctx);
      await publish(writer, async (sink) => {
        await writeFiles(sink, many);
        await writer.write('files/unlisted', bytesOf(bodyOf(1)), writeOptions());
      });
    }
    const findings = await verifyArchive(await archiveIn('strange'), { scratchDir }, ctx);
    assert.deepEqual(
      findings.map(({ code, subject }) => `${code} ${subject}`),
      ['artifact-unknown files/unlisted'],
    );
  });

  test('leaves no list when it fails', async () => {
    for (const destination of [await openStore(fresh.copy()), archives('failed')]) {
      await using writer = await destination.begin(label, ctx);
      const { manifest, failed } = await publish(writer, async (sink) => {
        await writeFiles(sink, many);
        throw new TarsError('capture-failed', 'Half of it is gone');
      });
      assert.match(failed.get('files')?.message ?? '', /Half of it/);
      assert.equal(only(manifest).artifactList, undefined);
    }
    await using source = await openArchive(await archiveIn('failed'), { scratchDir }, ctx);
    const paths = await Array.fromAsync(source.entries('', never), ({ path }) => path);
    assert.deepEqual(paths, ['manifest.json']);
  });

  test('is not restored from a list that is not the one of the manifest', async () => {
    await using store = await openStore(fresh.copy());
    {
      await using writer = await store.begin(label, ctx);
      await publish(writer, (sink) => writeFiles(sink, many));
    }
    await using source = await store.open('latest', label, ctx);
    const component = only(await source.manifest(never));
    const { artifactList } = component;
    assert.ok(artifactList);
    const lies = { sizeBytes: 1, sha256: '0'.repeat(64), artifacts: 1, artifactBytes: 1 };
    for (const [member, value] of Object.entries(lies)) {
      const lying = { ...component, artifactList: { ...artifactList, [member]: value } };
      await assert.rejects(collectArtifacts(lying, source, never), { code: 'corruption' }, member);
    }
  });

  test('is refused before it is published where no reader would take it', async () => {
    const storage = fresh.copy();
    const store = await openStore(storage);
    for (const destination of [store, archives('refused')]) {
      await using writer = await destination.begin(label, ctx);
      const long = `files/${'x'
        .repeat(200)
        .concat('/')
        .repeat(pathMaxBytes / 200 + 1)}`;
      const tooLong = {
        code: 'capture-failed',
        message: new RegExp(`${pathMaxBytes}|longer than an archive`),
      };
      await assert.rejects(writer.directory(`${long}end`, attributes()), tooLong);
      const facts = { text: 'x'.repeat(manifestMaxBytes) };
      const component = { ...only(manifestOf([])), facts };
      const expected = { code: 'capture-failed', message: /The manifest has \d+ bytes/ };
      await assert.rejects(writer.publish({ ...manifestOf([]), components: [component] }, ctx), expected);
    }
    assert.deepEqual(await store.list(ctx), []);
    assert.deepEqual(await readdir(join(root, 'refused')), []);
  });

  test('is not published when the storage gives back something else than it took', async () => {
    const storage = new LyingStorage(fresh.copy());
    const store = await openStore(storage);
    await using writer = await store.begin(label, ctx);
    storage.isLying = true;
    const expected = { code: 'capture-failed', message: /cannot be read back, so it is not published/ };
    await assert.rejects(
      publish(writer, (sink) => writeFiles(sink, 1)),
      expected,
    );
    assert.deepEqual(await store.list(ctx), []);
  });
});

/** Keeps all it is given, and damages what it gives back of data packs. */
class LyingStorage implements StorageBackend {
  readonly location = 'lying';
  isLying = false;
  readonly #inner: MemoryStorage;

  constructor(inner: MemoryStorage) {
    this.#inner = inner;
  }

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
    if (file.type !== 'data' || !this.isLying) return bytes;
    const damaged = Uint8Array.from(bytes);
    damaged[0] = (damaged[0] ?? 0) ^ 1;
    return damaged;
  }
}
