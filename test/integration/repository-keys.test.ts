import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CorruptionError, TarsError, type ErrorCode } from '../../src/model/errors.ts';
import type { StorageBackend } from '../../src/ports/storage.ts';
import { changePassword } from '../../src/repository/key-changes.ts';
import { addKey, createRepository, openRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { testContext } from '../fixtures/context.ts';
import { password, RepositoryDirectory } from '../fixtures/repositories.ts';

const failsWith =
  (code: ErrorCode, hint: RegExp) =>
  (error: unknown): boolean =>
    error instanceof TarsError && error.code === code && hint.test(error.hint ?? '');

test('every key opens, also one that stock restic added, and ours opens in stock restic', async () => {
  await using directory = await RepositoryDirectory.createdInFull();
  const storage = createLocalStorage(directory.path);
  const repository = await openRepository(storage, password, testContext());
  await addKey(repository, 'second ⚿', testContext());
  const newPassword = join(directory.root, 'third');
  await writeFile(newPassword, 'third');
  await directory.restic(['key', 'add', '--new-password-file', newPassword], { secret: 'second ⚿' });
  assert.equal((await readdir(join(directory.path, 'keys'))).length, 3);
  for (const secret of [password, 'second ⚿', 'third']) {
    assert.equal((await openRepository(storage, secret, testContext())).id, repository.id);
    await directory.restic(['cat', 'config'], { secret });
  }
  await assert.rejects(
    openRepository(storage, 'fourth', testContext()),
    failsWith('wrong-password', /TARS_PASSWORD/),
  );
});

test('a damaged key does not keep another one from opening', async () => {
  await using directory = await RepositoryDirectory.created();
  const keys = join(directory.path, 'keys');
  const odd = (changed: object): string =>
    JSON.stringify({ kdf: 'scrypt', N: 2, r: 8, p: 1, salt: '', data: '', ...changed });
  await writeFile(join(keys, '0'.repeat(64)), '{"kdf":');
  await writeFile(join(keys, '0'.repeat(63) + '1'), odd({ N: 3 }));
  await writeFile(join(keys, '0'.repeat(63) + '2'), odd({ kdf: 'a new one' }));
  const warnings: string[] = [];
  const ctx = {
    ...testContext(),
    log: { ...testContext().log, warn: (text: string) => warnings.push(text) },
  };
  await openRepository(createLocalStorage(directory.path), password, ctx);
  assert.match(warnings.join(), /Key 0000.*derivation with N=3.*unknown key derivation/);
});

test('a repository whose only key needs a newer tars says so', async () => {
  await using directory = await RepositoryDirectory.created();
  const keys = join(directory.path, 'keys');
  for (const name of await readdir(keys)) await rm(join(keys, name));
  const key = { kdf: 'a new one', N: 2, r: 8, p: 1, salt: '', data: '' };
  await writeFile(join(keys, '0'.repeat(64)), JSON.stringify(key));
  await assert.rejects(
    openRepository(createLocalStorage(directory.path), password, testContext()),
    failsWith('unsupported-version', /newer tars/),
  );
});

test('no key file has the password or the master key in it', async () => {
  await using directory = await RepositoryDirectory.createdInFull();
  const repository = await openRepository(createLocalStorage(directory.path), password, testContext());
  const [name] = await readdir(join(directory.path, 'keys'));
  const content = (await readFile(join(directory.path, 'keys', name ?? ''))).toString();
  assert.ok(!content.includes(password));
  assert.ok(!content.includes(Buffer.from(repository.crypto.material.encrypt).toString('base64')));
});

test('no repository, a second one at the same place, an empty password', async () => {
  await using directory = await RepositoryDirectory.empty();
  const storage = createLocalStorage(directory.path);
  const missing = failsWith('repository-not-found', /tars init/);
  await assert.rejects(openRepository(storage, password, testContext()), missing);
  await mkdir(directory.path);
  await assert.rejects(openRepository(storage, password, testContext()), missing);
  await assert.rejects(
    createRepository(storage, '', testContext()),
    failsWith('configuration', /TARS_PASSWORD/),
  );
  await createRepository(storage, password, testContext());
  await assert.rejects(
    createRepository(storage, password, testContext()),
    failsWith('repository-exists', /another location/),
  );
});

test('a damaged configuration is corruption, not a wrong password', async () => {
  await using directory = await RepositoryDirectory.created();
  const path = join(directory.path, 'config');
  const config = await readFile(path);
  config[20]! ^= 1;
  await writeFile(path, config);
  await assert.rejects(
    openRepository(createLocalStorage(directory.path), password, testContext()),
    CorruptionError,
  );
});

test('neither the key in use nor the last one can be removed, nor one that a prefix does not tell', async () => {
  await using directory = await RepositoryDirectory.created();
  await using store = await directory.store();
  const ctx = testContext();
  const [only] = await store.listKeys(ctx);
  assert.ok(only?.isCurrent === true && only.hostname === 'simulation');
  await assert.rejects(store.removeKey(only.id, ctx), failsWith('key-refused', /passwd/));
  const second = await store.addKey('second', ctx);
  await assert.rejects(store.removeKey(only.id, ctx), failsWith('key-refused', /another key/));
  for (const reference of ['', 'xyz', 'f'.repeat(64)]) {
    await assert.rejects(store.removeKey(reference, ctx), failsWith('key-not-found', /tars key list/));
  }
  assert.deepEqual(
    new Set((await store.listKeys(ctx)).map(({ id, isCurrent }) => `${id} ${isCurrent}`)),
    new Set([`${only.id} true`, `${second} false`]),
  );
  const { added, removed } = await store.changePassword('third', ctx);
  assert.equal(removed, only.id);
  await assert.rejects(store.removeKey(added, ctx), failsWith('key-refused', /another key/));
  assert.equal(await store.removeKey(second, ctx), second);
  await using again = await directory.store('third');
  assert.deepEqual(
    (await again.listKeys(ctx)).map(({ id }) => id),
    [added],
  );
});

test('a new key that does not open the repository is removed again, and the old one stays', async () => {
  await using directory = await RepositoryDirectory.created();
  const storage = createLocalStorage(directory.path);
  const repository = await openRepository(storage, password, testContext());
  const before = await readdir(join(directory.path, 'keys'));
  // What is read back is not what was written.
  const lying: StorageBackend = Object.assign(Object.create(storage) as StorageBackend, {
    load: async (...args: Parameters<StorageBackend['load']>) => {
      const [file] = args;
      const name = before[0] ?? '';
      return storage.load(file.type === 'keys' ? { ...file, name } : file, args[1], args[2]);
    },
    save: storage.save.bind(storage),
    list: storage.list.bind(storage),
    remove: storage.remove.bind(storage),
  });
  const broken = { ...repository, storage: lying };
  await assert.rejects(changePassword(broken, 'new', testContext()), CorruptionError);
  assert.deepEqual(await readdir(join(directory.path, 'keys')), before);
});

test('a change of the password that is cut off leaves one key, or says that there are two', async () => {
  await using directory = await RepositoryDirectory.created();
  const storage = createLocalStorage(directory.path);
  const repository = await openRepository(storage, password, testContext());
  const keys = (): Promise<string[]> => readdir(join(directory.path, 'keys'));
  const before = await keys();
  /** Calls of `method` for keys stop the operation first. */
  const stopping = (method: 'load' | 'remove') => {
    const stop = new AbortController();
    const faulty: StorageBackend = Object.assign(Object.create(storage) as StorageBackend, {
      load: storage.load.bind(storage),
      save: storage.save.bind(storage),
      list: storage.list.bind(storage),
      remove: storage.remove.bind(storage),
    });
    const original = storage[method].bind(storage) as (...args: unknown[]) => Promise<unknown>;
    const stopped = (...args: [{ readonly type: string }, ...unknown[]]): Promise<unknown> => {
      if (args[0].type === 'keys') stop.abort();
      return original(...args);
    };
    return { broken: { ...repository, storage: Object.assign(faulty, { [method]: stopped }) }, stop };
  };

  const early = stopping('load');
  await assert.rejects(
    changePassword(early.broken, 'new', testContext(early.stop.signal)),
    failsWith('interrupted', /^$/),
  );
  assert.deepEqual(await keys(), before, 'the new one is gone again');

  const late = stopping('remove');
  await assert.rejects(
    changePassword(late.broken, 'new', testContext(late.stop.signal)),
    (error: unknown) => {
      assert.ok(failsWith('interrupted', /tars key remove/)(error), String(error));
      assert.match(String(error), /both passwords open the repository/);
      return true;
    },
  );
  assert.equal((await keys()).length, 2);
  await openRepository(storage, 'new', testContext());
});
