import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CorruptionError, TarsError, type ErrorCode } from '../../src/model/errors.ts';
import { addKey, createRepository, openRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { testContext } from '../fixtures/context.ts';
import { password, RepositoryDirectory } from '../fixtures/repositories.ts';

const failsWith =
  (code: ErrorCode, hint: RegExp) =>
  (error: unknown): boolean =>
    error instanceof TarsError && error.code === code && hint.test(error.hint ?? '');

test('every key opens, also one that stock restic added, and ours opens in stock restic', async () => {
  await using directory = await RepositoryDirectory.created();
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
  await using directory = await RepositoryDirectory.created();
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
