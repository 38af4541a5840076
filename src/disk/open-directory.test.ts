import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, realpath, rename, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { OpenDirectory } from './open-directory.ts';
import { openPath } from './open-path.ts';
import { removeTree } from './remove-tree.ts';

const isRoot = process.getuid?.() === 0;

async function scene(t: TestContext): Promise<string> {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-open-')));
  t.after(() => rm(root, { recursive: true, force: true }));
  return root;
}

test('steps start from the directory that was opened, wherever it is by now, and follow no link', async (t) => {
  const root = await scene(t);
  mkdirSync(join(root, 'dir/sub'), { recursive: true });
  mkdirSync(join(root, 'outside'));
  writeFileSync(join(root, 'outside/file'), 'outside');
  writeFileSync(Buffer.concat([Buffer.from(`${root}/dir/a`), Buffer.of(0xe9)]), 'latin1');
  using directory = OpenDirectory.open(join(root, 'dir'));
  await rename(join(root, 'dir'), join(root, 'moved'));
  await symlink('outside', join(root, 'dir'));
  assert.deepEqual(directory.names(), ['a\udce9', 'sub']);
  assert.equal(readFileSync(directory.at('a\udce9'), 'utf8'), 'latin1');
  symlinkSync('../outside', join(root, 'moved/link'));
  assert.throws(() => directory.openDirectory('link'), { code: 'ENOTDIR' });
  assert.throws(() => directory.openFile('link', 0), { code: 'ELOOP' });
  for (const name of ['..', '', 'sub/x', 'a\0b'])
    assert.throws(() => directory.at(name), /is not the name of an entry/);
  using created = await directory.createDirectory('new');
  await directory.rename('a\udce9', created, 'b');
  assert.deepEqual([directory.names(), created.names()], [['link', 'new', 'sub'], ['b']]);
  assert.equal(directory.lstat('gone'), undefined);
});

test('a path is opened through links of root and this user only', async (t) => {
  const root = await scene(t);
  mkdirSync(join(root, 'real/deep'), { recursive: true });
  symlinkSync('real', join(root, 'relative'));
  symlinkSync(join(root, 'relative/../relative/deep'), join(root, 'absolute'));
  using opened = await openPath(join(root, 'absolute'));
  assert.equal(opened.path, join(root, 'real/deep'));
  symlinkSync('loop', join(root, 'loop'));
  await assert.rejects(openPath(join(root, 'loop')), /leads through more than 40 links/);
  await assert.rejects(openPath(join(root, 'none')), { code: 'storage-not-found' });
  using made = await openPath(join(root, 'relative/new/newer'), { create: 0o750 });
  assert.equal(made.path, join(root, 'real/new/newer'));
  assert.equal(lstatSync(made.path).mode & 0o777, 0o750);
  if (!isRoot) return;
  mkdirSync(join(root, 'theirs'));
  symlinkSync('../real', join(root, 'theirs/link'));
  const [mode, owner] = [
    () => chmodSync(join(root, 'theirs'), 0o777),
    () => chownSync(join(root, 'theirs'), 1234, 0),
  ];
  for (const spoil of [mode, owner]) {
    (await openPath(join(root, 'theirs/link'))).directory.close();
    spoil();
    await assert.rejects(openPath(join(root, 'theirs/link/deep')), {
      code: 'access-denied',
      message: /theirs\/link is a symbolic link that users other than root may change/,
    });
    chownSync(join(root, 'theirs'), 0, 0);
    chmodSync(join(root, 'theirs'), 0o755);
  }
});

test('what is removed is removed to the bottom, links and all, and nothing beside it', async (t) => {
  const root = await scene(t);
  writeFileSync(join(root, 'outside'), 'stays');
  let at = join(root, 'tree');
  for (let depth = 0; depth < 60; depth++) mkdirSync((at = join(at, 'd'.repeat(10))), { recursive: true });
  symlinkSync(join(root, 'outside'), join(root, 'tree/link'));
  mkdirSync(join(root, 'tree/closed'), { mode: 0o700 });
  writeFileSync(join(root, 'tree/closed/file'), '');
  chmodSync(join(root, 'tree/closed'), 0o000);
  using directory = OpenDirectory.open(root);
  await removeTree(directory, 'tree');
  await removeTree(directory, 'tree');
  assert.deepEqual(directory.names(), ['outside']);
});

test(
  'a file system that is mounted inside is left alone, and so is its bind mount',
  { skip: !isRoot },
  async (t) => {
    const root = await scene(t);
    mkdirSync(join(root, 'tree/mnt'), { recursive: true });
    mkdirSync(join(root, 'elsewhere'));
    writeFileSync(join(root, 'elsewhere/file'), 'stays');
    execFileSync('mount', ['--bind', join(root, 'elsewhere'), join(root, 'tree/mnt')]);
    try {
      using directory = OpenDirectory.open(root);
      await assert.rejects(removeTree(directory, 'tree'), {
        message: /^Cannot delete \/\S+\/tree\/\S+: something is mounted there$/,
      });
      assert.ok(existsSync(join(root, 'elsewhere/file')));
    } finally {
      execFileSync('umount', [join(root, 'tree/mnt')]);
    }
  },
);
