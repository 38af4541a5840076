import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openStoreAndPassword } from '../../src/composition/index.ts';
import { parseSettings } from '../../src/composition/settings.ts';
import { repositoryPassword } from '../../src/settings/secrets.ts';
import { createWithCheapKey } from '../fixtures/cheap-key.ts';
import { testContext } from '../fixtures/context.ts';
import { systemRestic } from '../fixtures/restic.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { readAsRestic } from '../../src/settings/password-text.ts';

/** Files of passwords, and what is read from them. */
const files: readonly (readonly [string, Uint8Array, string | undefined])[] = [
  ['line end', Buffer.from('secret\n'), 'secret'],
  ['carriage return', Buffer.from('secret\r\n'), 'secret'],
  ['blank lines', Buffer.from('\n\nsecret\n\n'), 'secret'],
  ['blanks', Buffer.from(' \t\v\fsecret \t\n'), 'secret'],
  ['a blank inside', Buffer.from('sec ret\n'), 'sec ret'],
  ['two lines', Buffer.from('secret\nsecond\n'), 'secret\nsecond'],
  ['wide blanks', Buffer.from('\u3000secret\u00a0\u0085\u2003'), 'secret'],
  ['what looks like a blank', Buffer.from('secret\u200b\n'), 'secret\u200b'],
  ['a mark of UTF-8', Buffer.from('\ufeffsecret\r\n'), 'secret'],
  ['two marks', Buffer.from('\ufeff\ufeffsecret'), '\ufeffsecret'],
  ['a mark behind', Buffer.from('secret\ufeff'), 'secret\ufeff'],
  ['UTF-16, little end first', Buffer.from('\ufeffsecret\r\n', 'utf16le'), 'secret'],
  ['UTF-16, big end first', Buffer.from('\ufeffsecret\r\n', 'utf16le').swap16(), 'secret'],
  ['Latin-1', Buffer.from('secr\u00e9t\n', 'latin1'), undefined],
  ['nothing', Buffer.from('\n'), ''],
];

let root: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-password-'));
});
after(() => rm(root, { recursive: true, force: true }));

test('a file of passwords is read as restic reads it', async () => {
  for (const [what, bytes, expected] of files) assert.equal(readAsRestic(bytes), expected, what);

  // The proof: stock restic opens with the file what it made with the text.
  const path = join(root, 'repository');
  await createWithCheapKey(createLocalStorage(path), 'secret', testContext());
  const opening = files.filter(([, , text]) => text !== '' && text !== undefined);
  const opened = await Promise.all(
    opening.map(async ([what, bytes]) => {
      const file = join(root, what);
      await writeFile(file, bytes);
      const args = ['-r', path, '--no-cache', '--no-lock', '--password-file', file, 'cat', 'config'];
      return { what, opened: (await execa(systemRestic.path, args, { reject: false })).exitCode === 0 };
    }),
  );
  assert.deepEqual(
    opened,
    opening.map(([what, , text]) => ({ what, opened: text === 'secret' })),
  );
});

test('a key that was made with the blanks of its file, as up to 1.0.12, still opens, and that is said', async () => {
  const path = join(root, 'old');
  const file = join(root, 'old key');
  const settings = parseSettings(
    `version: 1\nstack: s\nrepository: { path: ${path}, password_file: ${file} }\nstate_dir: ${root}`,
    join(root, 'tars.yaml'),
    {},
  );
  await createWithCheapKey(createLocalStorage(path), ' old\t', testContext());
  const open = async (bytes: Uint8Array): Promise<{ password: string; warned: string }> => {
    await writeFile(file, bytes);
    const warnings: string[] = [];
    const ctx = testContext();
    const log = { ...ctx.log, warn: (text: string) => void warnings.push(text) };
    const { store, password } = await openStoreAndPassword(settings, {}, { ...ctx, log });
    await store[Symbol.asyncDispose]();
    return { password, warned: warnings.join() };
  };
  const { password, warned } = await open(Buffer.from(' old\t\n'));
  assert.equal(password, ' old\t');
  assert.match(warned, /restic does not open it/);
  await assert.rejects(open(Buffer.from(' new\n')), { code: 'wrong-password' });
  await assert.rejects(open(Buffer.from('old\n')), { code: 'wrong-password' });

  await writeFile(file, Buffer.from('secr\u00e9t', 'latin1'));
  await assert.rejects(repositoryPassword(settings.repository, {}, testContext().signal), {
    code: 'configuration',
    message: /not encoded in UTF-8/,
  });
});
