import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readdir, rename, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { TarsError } from '../../src/model/errors.ts';
import { collect, label, never, seededBytes } from '../fixtures/archives.ts';
import { campaignSeed } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { publishSamples, RepositoryDirectory, type Sample } from '../fixtures/repositories.ts';

const ctx = testContext();
const run = promisify(execFile);
const isRoot = process.getuid?.() === 0;
const sample = (path: string, seed: number, sizeBytes: number): Sample => ({
  path,
  content: seededBytes(campaignSeed + seed, sizeBytes),
  chunking: 'stream',
});
const small = sample('small', 1, 300_000);

/** Runs `mount`; skips the test where that is not allowed, as in most containers. */
async function mount(t: TestContext, args: readonly string[]): Promise<boolean> {
  try {
    await run('mount', args);
    return true;
  } catch {
    t.skip('needs the right to mount');
    return false;
  }
}

/** Both we and stock restic find the repository sound, and the latest snapshot holds the sample. */
async function requireWhole(directory: RepositoryDirectory, { path, content }: Sample): Promise<void> {
  await using store = await directory.store();
  const { findings } = await store.check({ readData: true }, ctx);
  assert.deepEqual(
    findings.filter(({ severity }) => severity !== 'info'),
    [],
  );
  {
    await using source = await store.open('latest', label, ctx);
    assert.ok((await collect(source.open(path, never))).equals(content));
  }
  assert.match((await directory.restic(['check', '--read-data'])).toString(), /no errors were found/);
}

test('two backups at the same moment of the same data, and one of stock restic: all are whole', async () => {
  await using directory = await RepositoryDirectory.created();
  const shared = sample('shared', 2, 3_000_000);
  await Promise.all([
    ...[1, 2].map(async () => {
      await using store = await directory.store();
      await publishSamples(store, [shared, small]);
    }),
    directory.restic(['backup', import.meta.filename]),
  ]);
  await using store = await directory.store();
  const snapshots = await store.list(ctx);
  assert.equal(snapshots.length, 3);
  for (const { id } of snapshots.filter(({ stack }) => stack === 'lab')) {
    await using source = await store.open(id, undefined, ctx);
    for (const { path, content } of [shared, small]) {
      assert.ok((await collect(source.open(path, never))).equals(content), path);
    }
  }
  await requireWhole(directory, small);
});

test('a disk that fills up in the middle of a pack leaves what was there', { skip: !isRoot }, async (t) => {
  await using directory = await RepositoryDirectory.empty();
  const mountPoint = join(directory.root, 'disk');
  await mkdir(mountPoint);
  if (!(await mount(t, ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', mountPoint]))) return;
  try {
    await using original = await RepositoryDirectory.created();
    await run('cp', ['-r', original.path, mountPoint]);
    await symlink(join(mountPoint, 'repository'), directory.path);
    {
      await using store = await directory.store();
      await publishSamples(store, [small]);
      // Packs are uploaded while more is written, so the last of it may be taken before one fails.
      await assert.rejects(
        publishSamples(store, [sample('large', 3, 60_000_000)]),
        (error) => error instanceof TarsError && error.code === 'no-space' && error.hint !== undefined,
      );
    }
    assert.deepEqual(await readdir(join(directory.path, 'locks')), []);
    const left = await readdir(directory.path, { recursive: true });
    assert.deepEqual(
      left.filter((name) => name.includes('-tmp-')),
      [],
    );
    await using store = await directory.store();
    assert.equal((await store.list(ctx)).length, 1);
    await using source = await store.open('latest', label, ctx);
    assert.ok((await collect(source.open(small.path, never))).equals(small.content));
    await directory.restic(['--no-lock', 'check']);
  } finally {
    await run('umount', ['--lazy', mountPoint]);
  }
});

test(
  'a read-only file system is read and checked, and writing there is refused',
  { skip: !isRoot },
  async (t) => {
    await using directory = await RepositoryDirectory.created();
    {
      await using store = await directory.store();
      await publishSamples(store, [small]);
    }
    if (!(await mount(t, ['--bind', directory.path, directory.path]))) return;
    try {
      await run('mount', ['-o', 'remount,bind,ro', directory.path]);
      await using store = await directory.store();
      await using source = await store.open('latest', label, ctx);
      assert.ok((await collect(source.open(small.path, never))).equals(small.content));
      const { findings } = await store.check({ readData: true }, ctx);
      assert.deepEqual(
        findings.filter(({ severity }) => severity === 'error'),
        [],
      );
      await assert.rejects(store.begin(label, ctx), (error) => {
        return error instanceof TarsError && error.code === 'access-denied' && error.hint !== undefined;
      });
    } finally {
      await run('umount', [directory.path]);
    }
  },
);

test('its directories may be links to another disk', async () => {
  await using directory = await RepositoryDirectory.created();
  const elsewhere = join(directory.root, 'elsewhere');
  await mkdir(elsewhere);
  for (const name of ['data', 'index', 'locks']) {
    await rename(join(directory.path, name), join(elsewhere, name));
    await symlink(join(elsewhere, name), join(directory.path, name));
  }
  {
    await using store = await directory.store();
    await publishSamples(store, [small]);
  }
  assert.ok((await readdir(join(elsewhere, 'index'))).length > 0);
  await requireWhole(directory, small);
});

test('whatever the umask is, stored files are for their owner alone', async () => {
  await using directory = await RepositoryDirectory.created();
  const before = process.umask(0);
  try {
    await using store = await directory.store();
    await publishSamples(store, [small]);
  } finally {
    process.umask(before);
  }
  const { stdout } = await run('find', [directory.path, '-perm', '/077']);
  assert.equal(stdout, '');
});
