import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { TarsError, type ErrorCode } from '../../model/errors.ts';
import { createLocalStorage } from './local-storage.ts';

const never = new AbortController().signal;
const config = { type: 'config', name: '' } as const;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const isRoot = process.getuid?.() === 0;

async function scratch(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'tars-local-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

const failsWith = (code: ErrorCode, hint: RegExp) => (error: unknown) => {
  assert.ok(error instanceof TarsError);
  assert.equal(error.code, code, error.message);
  assert.match(error.hint ?? '', hint);
  return true;
};
const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

test('the structure and the modes are those of restic', async (t) => {
  const ours = join(await scratch(t), 'ours');
  const theirs = join(await scratch(t), 'theirs');
  const storage = createLocalStorage(ours);
  await storage.create(never);
  await storage.save(config, [bytes('config')], never);
  execFileSync('restic', ['init', '--no-cache', '-r', theirs], {
    env: { ...process.env, RESTIC_PASSWORD: 'x' },
    stdio: 'pipe',
  });
  const directories = async (root: string): Promise<string[]> => {
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
      .sort();
  };
  const names = await directories(ours);
  assert.deepEqual(names, await directories(theirs));
  assert.equal(names.length, 5 + 256);
  for (const name of names) assert.equal(await modeOf(ours + name), 0o700, name);
  assert.equal(await modeOf(ours), 0o700);
  assert.equal(await modeOf(join(ours, 'config')), 0o400);
  assert.equal(await modeOf(join(theirs, 'config')), 0o400);
});

test('the files of a repository its group may read are for the group too', async (t) => {
  const root = await scratch(t);
  const storage = createLocalStorage(root);
  await storage.create(never);
  await storage.save(config, [bytes('config')], never);
  await chmod(join(root, 'config'), 0o440);
  await rm(join(root, 'data', 'ab'), { recursive: true });
  await storage.save({ type: 'data', name: 'ab'.repeat(32) }, [bytes('pack')], never);
  assert.equal(await modeOf(join(root, 'data', 'ab', 'ab'.repeat(32))), 0o440);
  assert.equal((await modeOf(join(root, 'data', 'ab'))) & 0o700, 0o700);
});

test('temporary files, foreign names and misplaced packs are not listed', async (t) => {
  const root = await scratch(t);
  const storage = createLocalStorage(root);
  await storage.create(never);
  const name = 'ab'.repeat(32);
  await storage.save({ type: 'data', name }, [bytes('pack')], never);
  await writeFile(join(root, 'data', 'ab', `${name}-tmp-12345`), 'x');
  await writeFile(join(root, 'data', 'ab', 'README'), 'x');
  await writeFile(join(root, 'data', 'ab', 'cd'.repeat(32)), 'x');
  await writeFile(join(root, 'data', name), 'x');
  await mkdir(join(root, 'data', 'ab', `ab${'cd'.repeat(31)}`));
  const listed = await Array.fromAsync(storage.list('data', never));
  assert.deepEqual(listed, [{ name, sizeBytes: 4 }]);
});

test('a directory with foreign files is refused and left alone', async (t) => {
  const root = await scratch(t);
  await writeFile(join(root, 'photo.jpg'), 'x');
  await assert.rejects(createLocalStorage(root).create(never), failsWith('storage-exists', /empty/));
  assert.deepEqual(await readdir(root), ['photo.jpg']);
});

test('keys or snapshots without a config are refused, an empty structure is taken over', async (t) => {
  const root = await scratch(t);
  const storage = createLocalStorage(root);
  await storage.create(never);
  await storage.create(never);
  await storage.save({ type: 'keys', name: 'ab'.repeat(32) }, [bytes('key')], never);
  await assert.rejects(storage.create(never), failsWith('storage-exists', /config is lost/));
});

test('a missing root is not created by saving', async (t) => {
  const root = join(await scratch(t), 'unmounted');
  const saving = createLocalStorage(root).save({ type: 'data', name: 'ab'.repeat(32) }, [bytes('x')], never);
  await assert.rejects(saving, (error) => error instanceof TarsError && error.code === 'storage-not-found');
  await assert.rejects(stat(root));
});

test('an interrupted save leaves no temporary file', async (t) => {
  const root = await scratch(t);
  const storage = createLocalStorage(root);
  await storage.create(never);
  const controller = new AbortController();
  const part = new Uint8Array(1 << 20);
  const parts = {
    *[Symbol.iterator]() {
      yield part;
      controller.abort();
      yield part;
    },
  } as unknown as readonly Uint8Array[];
  const saving = storage.save({ type: 'index', name: 'ab'.repeat(32) }, parts, controller.signal);
  await assert.rejects(saving, (error) => error instanceof TarsError && error.code === 'interrupted');
  assert.deepEqual(await readdir(join(root, 'index')), []);
});

test(
  'a full disk is no-space, says so once of the repository and leaves nothing',
  { skip: !isRoot },
  async (t) => {
    const root = await scratch(t);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,nr_inodes=400', 'tmpfs', root], { stdio: 'pipe' });
    } catch {
      t.skip('needs the right to mount a tmpfs');
      return;
    }
    try {
      const storage = createLocalStorage(root);
      await storage.create(never);
      const file = { type: 'data', name: 'ab'.repeat(32) } as const;
      const saving = storage.save(file, [Buffer.alloc(4 << 20, 1)], never);
      const isSaid = (error: unknown): boolean => {
        assert.ok(error instanceof TarsError && error.code === 'no-space');
        assert.equal(
          error.message,
          `Cannot write to the repository ${root}: no space left on its file system`,
        );
        return failsWith('no-space', new RegExp(`^Free space on the file system of ${root}, or`))(error);
      };
      await assert.rejects(saving, isSaid);
      assert.deepEqual(await readdir(join(root, 'data', 'ab')), []);
      await storage.save(file, [bytes('small')], never);
      // Room for bytes, but for no further file: that error of the system names the path itself.
      const names = Array.from({ length: 400 }, (_, index) => index.toString(16).padStart(64, '0'));
      const filling = (async (): Promise<void> => {
        for (const name of names) await storage.save({ type: 'keys', name }, [bytes('x')], never);
      })();
      await assert.rejects(filling, isSaid);
    } finally {
      execFileSync('umount', [root]);
    }
  },
);

test('a directory one may not write is access-denied and names the path', async (t) => {
  const root = await scratch(t);
  const storage = createLocalStorage(root);
  await storage.create(never);
  await chmod(root, 0o755);
  await chmod(join(root, 'index'), 0o555);
  const file = { type: 'index', name: 'ab'.repeat(32) } as const;
  if (isRoot) process.seteuid?.(65534);
  try {
    await assert.rejects(
      storage.save(file, [bytes('x')], never),
      failsWith('access-denied', new RegExp(`${root}/index/ab`)),
    );
  } finally {
    if (isRoot) process.seteuid?.(0);
    await chmod(join(root, 'index'), 0o700);
  }
});

test('what saves that were cut off left behind is removed, but not unfinished locks', async (t) => {
  const root = await scratch(t);
  const storage = createLocalStorage(root);
  await storage.create(never);
  const name = 'ab'.repeat(32);
  await storage.save({ type: 'data', name }, [bytes('whole')], never);
  const left = ['data/ab', 'index', 'snapshots', 'keys', 'locks'].map((folder) => join(root, folder));
  // As tars names them, and as restic does.
  for (const folder of left) await writeFile(join(folder, `${name}-tmp-${folder.length}`), 'half');
  assert.equal(await storage.removeUnfinished(never), 4 * 'half'.length);
  assert.deepEqual(await readdir(join(root, 'data', 'ab')), [name]);
  assert.deepEqual(await Promise.all(left.slice(1, 4).map((folder) => readdir(folder))), [[], [], []]);
  assert.equal((await readdir(join(root, 'locks'))).length, 1);
});
