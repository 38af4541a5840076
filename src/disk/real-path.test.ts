import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { realPathIfThere, throughLinks } from './real-path.ts';

test('a path leads where its links lead, also while its end does not exist', async (t) => {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-real-path-')));
  t.after(() => rm(root, { recursive: true, force: true }));
  await mkdir(join(root, 'disk'));
  await symlink('disk', join(root, 'link'));
  assert.equal(await realPathIfThere(join(root, 'link')), join(root, 'disk'));
  assert.equal(await realPathIfThere(join(root, 'link/new')), join(root, 'link/new'));
  assert.equal(await throughLinks(join(root, 'link/new/below')), join(root, 'disk/new/below'));
});
