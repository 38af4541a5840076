import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { BodyStore, FileIdentity } from '../../src/ports/artifacts.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import type { TarsError } from '../../src/model/errors.ts';
import type { Component, PreparedCapture } from '../../src/ports/component.ts';
import { captureAll, precaptureAll } from '../../src/operations/backup/capture-all.ts';
import { attributes, bytesOf, collect, label, manifestOf, never, seededBytes } from '../fixtures/archives.ts';
import { testContext } from '../fixtures/context.ts';
import { MemoryStorage } from '../fixtures/storage.ts';
import { createCheapRepository, password } from '../simulation/stack-snapshots.ts';

const ctx = testContext();
const storage = new MemoryStorage();
before(() => createCheapRepository(storage, ctx));
const openStore = () => openSnapshotStore(storage, password, ctx, { workers: 1 });

const kept = seededBytes(1, 300_000);
const dropped = seededBytes(2, 300_000);
const identity: FileIdentity = { sizeBytes: kept.length, mtimeNs: 1n, ctimeNs: 2n, inode: 3n };

function required(bodies: BodyStore | undefined): BodyStore {
  assert.ok(bodies);
  return bodies;
}

test('bodies are stored before the cut; those that are placed are in the snapshot, and known to the next', async () => {
  await using store = await openStore();
  await using writer = await store.begin(label, ctx);
  let token: Uint8Array | undefined;
  const capture: PreparedCapture = {
    pointInTime: 'cut',
    async precapture({ bodies }) {
      const options = { chunking: 'stream' as const, signal: never };
      token = Uint8Array.from((await required(bodies).store('files/a', bytesOf(kept), options)).token);
      await required(bodies).store('files/gone', bytesOf(dropped), options);
    },
    mark: () => Promise.resolve(),
    settle: () => Promise.resolve(),
    async capture({ bodies }) {
      const body = { sizeBytes: kept.length, sha256: 'a'.repeat(64), token: token ?? new Uint8Array() };
      await required(bodies).place('files/moved', body, {
        attributes: attributes({ mtimeNs: 1n }),
        identity,
      });
      return { serverVersion: undefined, method: 'tree', writesBlockedMs: 0, facts: {} };
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const captures = new Map([['files', capture]]);
  const failed = new Map<string, TarsError>();
  await precaptureAll(captures, failed, writer, ctx);
  const component = { name: 'files', kind: 'files' } as Component;
  const components = await captureAll([component], captures, failed, writer, ctx);
  assert.deepEqual([...failed], []);
  assert.deepEqual(
    components[0]?.artifacts.map(({ path }) => path),
    ['files/moved'],
  );
  await writer.publish({ ...manifestOf([]), components }, ctx);

  await using source = await store.open('latest', label, ctx);
  const paths = await Array.fromAsync(source.entries('files', never), ({ path }) => path);
  assert.deepEqual(paths, ['files', 'files/moved']);
  assert.ok((await collect(source.open('files/moved', never))).equals(kept));

  await using next = await store.begin(label, ctx);
  assert.equal(await required(next.bodies).known('files/gone', identity), undefined);
  assert.equal(await required(next.bodies).known('files/moved', { ...identity, inode: 4n }), undefined);
  const known = await required(next.bodies).known('files/moved', identity);
  assert.ok(known);
  await required(next.bodies).place('files/moved', known, { attributes: attributes(), identity });
  const { summary, addedBytes } = await next.publish(manifestOf([]), ctx);
  assert.ok(addedBytes < 50_000, `${addedBytes}`);
  await using again = await store.open(summary.id, label, ctx);
  assert.ok((await collect(again.open('files/moved', never))).equals(kept));
  assert.deepEqual((await store.check({ readData: true }, ctx)).findings, []);
});

test('a component whose precapture fails is recorded as failed and closed', async () => {
  await using store = await openStore();
  await using writer = await store.begin(label, ctx);
  let isClosed = false;
  const capture: PreparedCapture = {
    pointInTime: 'cut',
    precapture: () => Promise.reject(new Error('no such place')),
    mark: () => Promise.resolve(),
    settle: () => Promise.resolve(),
    capture: () => Promise.reject(new Error('not reached')),
    [Symbol.asyncDispose]: () => Promise.resolve(void (isClosed = true)),
  };
  const captures = new Map([['files', capture]]);
  const failed = new Map<string, TarsError>();
  await precaptureAll(captures, failed, writer, ctx);
  assert.equal(captures.size, 0);
  assert.match(failed.get('files')?.message ?? '', /no such place/);
  assert.ok(isClosed);
});
