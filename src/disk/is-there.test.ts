import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isThere, isVisible, statIfThere } from './is-there.ts';

test('only what is missing is not there; what cannot be looked at is an error', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-is-there-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  await mkdir(join(root, 'closed'));
  await writeFile(join(root, 'file'), 'x');
  await symlink('nowhere', join(root, 'dangling'));
  assert.equal(await isThere(join(root, 'file')), true);
  assert.equal(await isThere(join(root, 'dangling')), true);
  assert.equal((await statIfThere(join(root, 'file')))?.size, 1n);
  for (const name of ['dangling', 'none', 'file/below'])
    assert.equal(await statIfThere(join(root, name)), undefined);
  for (const name of ['none', 'file/below']) assert.equal(await isThere(join(root, name)), false);
  assert.equal(await isVisible(join(root, 'file')), true);
  for (const name of ['dangling', 'none', 'file/below'])
    assert.equal(await isVisible(join(root, name)), false);
  await chmod(root, 0o755);
  await chmod(join(root, 'closed'), 0o000);
  if (process.getuid?.() === 0) process.seteuid?.(65_534);
  try {
    for (const look of [isThere, statIfThere])
      await assert.rejects(look(join(root, 'closed/file')), { code: 'access-denied' });
    assert.equal(await isVisible(join(root, 'closed/file')), false);
  } finally {
    if (process.getuid?.() === 0) process.seteuid?.(0);
  }
});
