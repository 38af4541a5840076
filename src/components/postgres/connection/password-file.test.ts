import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { PostgresOptions } from './options.ts';
import { passwordFromFile } from './password-file.ts';

test('the password file is read as libpq reads it, and not where others may', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-pgpass-'));
  const before = process.env['PGPASSFILE'];
  const path = (process.env['PGPASSFILE'] = join(root, 'pgpass'));
  t.after(async () => {
    if (before === undefined) delete process.env['PGPASSFILE'];
    else process.env['PGPASSFILE'] = before;
    await rm(root, { recursive: true, force: true });
  });
  const options = (user: string, port = 5433) => ({ host: '127.0.0.1', port, user }) as PostgresOptions;
  assert.equal(await passwordFromFile(options('u'), 'db'), '', 'there is none');
  const lines = [
    '# comment:*:*:u:no',
    '*:*:*:nobody:x',
    '127.0.0.1:5433:*:u:a\\:b\\\\c',
    '*:5434:other:u:wrong',
    '*:5434:d\\:b:u:right:with the rest\r',
    '127.0.0.1:*:*:*:last é',
    'short:line',
  ];
  await writeFile(path, lines.join('\n'), { mode: 0o600 });
  assert.equal(await passwordFromFile(options('u'), 'db'), 'a:b\\c');
  assert.equal(await passwordFromFile(options('u', 5434), 'd:b'), 'right');
  assert.equal(await passwordFromFile(options('v'), 'db'), 'last é');
  assert.equal(await passwordFromFile({ ...options('v'), host: '::1' }, 'db'), '');
  await chmod(path, 0o640);
  await assert.rejects(passwordFromFile(options('u'), 'db'), { code: 'access-denied', hint: /chmod 600 / });
});
