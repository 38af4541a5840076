import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { TarsError, type ErrorCode } from '../../src/model/errors.ts';
import type { StorageBackend, StorageFile, StorageFileType } from '../../src/ports/storage.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { FaultyStorage, MemoryStorage } from '../fixtures/storage.ts';

interface Adapter {
  readonly name: string;
  open(): Promise<{ storage: StorageBackend; dispose: () => Promise<void> }>;
}

const nothing = (): Promise<void> => Promise.resolve();
const adapters: readonly Adapter[] = [
  { name: 'memory', open: () => Promise.resolve({ storage: new MemoryStorage(), dispose: nothing }) },
  {
    name: 'faulty without a fault',
    open: () => Promise.resolve({ storage: new FaultyStorage(new MemoryStorage()), dispose: nothing }),
  },
  {
    name: 'local',
    open: async () => {
      const directory = await mkdtemp(join(tmpdir(), 'tars-storage-'));
      return {
        storage: createLocalStorage(join(directory, 'repository')),
        dispose: () => rm(directory, { recursive: true, force: true }),
      };
    },
  },
];

const never = new AbortController().signal;
const types: readonly StorageFileType[] = ['config', 'keys', 'data', 'index', 'snapshots', 'locks'];
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const fileOf = (type: StorageFileType, text: string): StorageFile => ({
  type,
  name: type === 'config' ? '' : createHash('sha256').update(text).digest('hex'),
});
const failsWith = (code: ErrorCode) => (error: unknown) => error instanceof TarsError && error.code === code;
const namesOf = async (storage: StorageBackend, type: StorageFileType): Promise<string[]> =>
  (await Array.fromAsync(storage.list(type, never))).map(({ name }) => name).sort();

for (const adapter of adapters) {
  describe(`storage: ${adapter.name}`, () => {
    const withStorage =
      (run: (storage: StorageBackend) => Promise<void>): (() => Promise<void>) =>
      async () => {
        const { storage, dispose } = await adapter.open();
        try {
          await storage.create(never);
          await run(storage);
        } finally {
          await dispose();
        }
      };

    for (const type of types) {
      test(
        'removing what is unfinished takes no file that is whole',
        withStorage(async (storage) => {
          for (const type of types) await storage.save(fileOf(type, 'whole'), [bytes('whole')], never);
          assert.equal(await storage.removeUnfinished(never), 0);
          for (const type of types) assert.equal((await namesOf(storage, type)).length, 1, type);
        }),
      );

      test(
        `${type}: what was saved is loaded, listed and measured, then removed`,
        withStorage(async (storage) => {
          const file = fileOf(type, 'hello world');
          assert.deepEqual(await namesOf(storage, type), []);
          await storage.save(file, [bytes('hello '), bytes(''), bytes('world')], never);
          assert.equal(Buffer.from(await storage.load(file, undefined, never)).toString(), 'hello world');
          assert.deepEqual(await storage.stat(file, never), { sizeBytes: 11 });
          assert.deepEqual(await Array.fromAsync(storage.list(type, never)), [
            { name: file.name, sizeBytes: 11 },
          ]);
          await storage.remove(file, never);
          assert.deepEqual(await namesOf(storage, type), []);
          await assert.rejects(storage.load(file, undefined, never), failsWith('storage-not-found'));
        }),
      );
    }

    test(
      'a file that exists is never overwritten',
      withStorage(async (storage) => {
        const file = fileOf('index', 'first');
        await storage.save(file, [bytes('first')], never);
        await assert.rejects(storage.save(file, [bytes('second')], never), failsWith('storage-exists'));
        assert.equal(Buffer.from(await storage.load(file, undefined, never)).toString(), 'first');
        assert.deepEqual(await namesOf(storage, 'index'), [file.name]);
      }),
    );

    test(
      'of two saves of one name at once exactly one succeeds',
      withStorage(async (storage) => {
        const file = fileOf('snapshots', 'race');
        const outcomes = await Promise.allSettled(
          ['a', 'b', 'c', 'd'].map((text) => storage.save(file, [bytes(text.repeat(4))], never)),
        );
        assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
        assert.match(Buffer.from(await storage.load(file, undefined, never)).toString(), /^(.)\1{3}$/);
      }),
    );

    test(
      'ranges are exact and a range beyond the end throws',
      withStorage(async (storage) => {
        const file = fileOf('data', '0123456789');
        await storage.save(file, [bytes('0123456789')], never);
        const load = async (offsetBytes: number, lengthBytes: number): Promise<string> =>
          Buffer.from(await storage.load(file, { offsetBytes, lengthBytes }, never)).toString();
        assert.equal(await load(0, 10), '0123456789');
        assert.equal(await load(3, 4), '3456');
        assert.equal(await load(9, 1), '9');
        assert.equal(await load(10, 0), '');
        await assert.rejects(load(9, 2), failsWith('corruption'));
        await assert.rejects(load(11, 1), failsWith('corruption'));
      }),
    );

    test(
      'a missing file is storage-not-found, and removing it no error',
      withStorage(async (storage) => {
        for (const type of types) {
          const file = fileOf(type, 'absent');
          await assert.rejects(storage.load(file, undefined, never), failsWith('storage-not-found'));
          await assert.rejects(
            storage.load(file, { offsetBytes: 0, lengthBytes: 1 }, never),
            failsWith('storage-not-found'),
          );
          await assert.rejects(storage.stat(file, never), failsWith('storage-not-found'));
          await storage.remove(file, never);
        }
      }),
    );

    test(
      'packs of every first byte are kept and listed',
      withStorage(async (storage) => {
        const files = Array.from({ length: 256 }, (_, byte) => ({
          type: 'data' as const,
          name: byte.toString(16).padStart(2, '0').repeat(32),
        }));
        for (const file of files) await storage.save(file, [bytes(file.name)], never);
        assert.deepEqual(
          await namesOf(storage, 'data'),
          files.map(({ name }) => name),
        );
      }),
    );

    test(
      'an empty file and one of some megabytes come back whole',
      withStorage(async (storage) => {
        const empty = fileOf('locks', '');
        await storage.save(empty, [], never);
        assert.equal((await storage.load(empty, undefined, never)).length, 0);
        const part = Buffer.alloc((1 << 20) + 7, 'abc');
        const large = fileOf('data', 'large');
        await storage.save(large, [part, part, part], never);
        assert.ok(
          Buffer.concat([part, part, part]).equals(Buffer.from(await storage.load(large, undefined, never))),
        );
      }),
    );

    test(
      'creating where a repository is throws',
      withStorage(async (storage) => {
        await storage.save({ type: 'config', name: '' }, [bytes('config')], never);
        await assert.rejects(storage.create(never), failsWith('storage-exists'));
      }),
    );

    test(
      'an aborted signal stops every call, and nothing of a save is left',
      withStorage(async (storage) => {
        const file = fileOf('index', 'aborted');
        const aborted = AbortSignal.abort();
        await assert.rejects(storage.save(file, [bytes('aborted')], aborted), failsWith('interrupted'));
        await assert.rejects(storage.load(file, undefined, aborted), failsWith('interrupted'));
        await assert.rejects(storage.stat(file, aborted), failsWith('interrupted'));
        await assert.rejects(
          Array.fromAsync(storage.list('index', aborted)).then(() => undefined),
          failsWith('interrupted'),
        );
        await assert.rejects(storage.remove(file, aborted), failsWith('interrupted'));
        assert.deepEqual(await namesOf(storage, 'index'), []);
      }),
    );
  });
}
