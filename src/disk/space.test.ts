import assert from 'node:assert/strict';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { freeBytes, nearestExisting } from './space.ts';

test('the nearest directory that exists decides, also above a file and a dangling link', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-space-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  await writeFile(join(root, 'file'), 'x');
  await symlink('nowhere', join(root, 'dangling'));
  assert.equal(await nearestExisting(root), root);
  assert.equal(await nearestExisting(join(root, 'none/below')), root);
  assert.equal(await nearestExisting(join(root, 'file/below')), join(root, 'file'));
  assert.equal(await nearestExisting(join(root, 'dangling')), root);
  assert.ok((await freeBytes(join(root, 'none/below'))) > 0);
});
