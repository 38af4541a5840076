import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFile,
  chmod,
  link,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { cliPath, tars } from '../fixtures/cli.ts';
import { end, eventually } from '../fixtures/processes.ts';
import { startSmallStack } from '../fixtures/small-stack.ts';
import type { Clock } from '../../src/ports/context.ts';
import { systemClock } from '../../src/runtimes/system-clock.ts';
import { differences } from '../fixtures/tree-comparison.ts';
import { TreeStack } from '../fixtures/tree-stack.ts';

const root = await mkdtemp(join(tmpdir(), 'tars-files-cut-'));
const scratchDir = join(root, 'scratch');
after(() => rm(root, { recursive: true, force: true }));

/** By which all files of the test are old enough for their time stamps to prove something. */
const laterClock: Clock = { ...systemClock, now: () => new Date(Date.now() + 10_000) };

let tree: string;
let stack: TreeStack;
let expected: string;
before(async () => {
  tree = join(root, 'tree');
  expected = join(root, 'expected');
  stack = await TreeStack.create({ trees: [{ path: tree, live: tree, exclude: ['/cache/'] }], scratchDir });
});
after(() => stack[Symbol.asyncDispose]());

async function plant(): Promise<void> {
  await rm(tree, { recursive: true, force: true });
  for (const name of ['a/deep/er', 'b', 'c/gone', 'cache'])
    await mkdir(join(tree, name), { recursive: true });
  for (const name of [
    'a/deep/er/kept',
    'a/grows',
    'a/same-size',
    'b/renamed',
    'b/vanishes',
    'c/gone/with',
    'mode',
  ])
    await writeFile(join(tree, name), `${name} as it was`);
  await writeFile(join(tree, 'a/large'), Buffer.alloc(3_000_000, 'large'));
  await writeFile(join(tree, 'b/shrinks'), Buffer.alloc(500_000, 'shrinks'));
  await writeFile(join(tree, 'b/sparse'), 'start');
  await truncate(join(tree, 'b/sparse'), 40_000_000);
  await link(join(tree, 'a/large'), join(tree, 'a/one more name'));
  await writeFile(join(tree, 'b/first name'), 'linked');
  await link(join(tree, 'b/first name'), join(tree, 'b/second name'));
  await symlink('a', join(tree, 'link'));
}

/** Everything that may happen to a tree between two looks. */
async function change(): Promise<void> {
  await appendFile(join(tree, 'a/grows'), ' and more');
  await writeFile(join(tree, 'a/same-size'), 'a/same-size as it is!');
  await appendFile(join(tree, 'a/large'), 'through one name');
  await truncate(join(tree, 'b/shrinks'), 100);
  await appendFile(join(tree, 'b/sparse'), 'end');
  await rename(join(tree, 'b/renamed'), join(tree, 'a/deep/er/and moved'));
  await unlink(join(tree, 'b/vanishes'));
  await rm(join(tree, 'c/gone'), { recursive: true });
  await writeFile(join(tree, 'c/gone'), 'a file by now');
  await unlink(join(tree, 'b/first name'));
  await link(join(tree, 'b/second name'), join(tree, 'b/third name'));
  await mkdir(join(tree, '0 appears/in'), { recursive: true });
  await writeFile(join(tree, '0 appears/in/it'), 'new');
  await writeFile(join(tree, 'z appears'), Buffer.alloc(300_000, 'z'));
  await chmod(join(tree, 'mode'), 0o400);
  await unlink(join(tree, 'link'));
  await symlink('b', join(tree, 'link'));
  await utimes(join(tree, 'a/deep'), 1000, 1000);
}

const keep = (): void => {
  execFileSync('rm', ['-rf', expected]);
  execFileSync('cp', ['-a', tree, expected]);
};

/** What goes on as soon as the writers run again. */
async function goOn(): Promise<void> {
  for (const name of ['a/grows', 'a/large', 'z appears']) await appendFile(join(tree, name), 'too late');
  await unlink(join(tree, 'a/same-size'));
  await writeFile(join(tree, 'b/too late'), '');
  await rm(join(tree, '0 appears'), { recursive: true });
}

test('a tree that changes all the time is captured exactly as it is at the mark', async () => {
  await plant();
  const captured = await stack.backup({
    clock: laterClock,
    paused: async () => {
      await change();
      keep();
    },
    resumed: goOn,
  });
  assert.equal(captured.pointInTime, 'cut');
  assert.equal(stack.ownReason, undefined);
  assert.equal(captured.incomplete, undefined);
  await stack.restore();
  assert.deepEqual(await differences(expected, tree, ['cache']), []);
  assert.deepEqual(await readdir(scratchDir), [], 'nothing of it is left');
});

test('what does not change is read once, before the mark; what does, again; what is known, never', async () => {
  await plant();
  await stack.backup({ clock: laterClock, paused: change });
  const reads = (name: string): number =>
    stack.written.filter((path) => path === `data${tree}/${name}`).length;
  const found = ['a/deep/er/kept', 'a/grows', 'z appears', 'b/vanishes', 'a/deep/er/and moved'].map(reads);
  assert.deepEqual(found, [1, 2, 1, 1, 1]);
  await stack.backup({ clock: laterClock });
  assert.deepEqual(
    stack.written.filter((path) => path.startsWith('data/')),
    [],
  );
});

test('a file that changed just before it was read is fixed at the mark: its time stamps prove nothing', async () => {
  await plant();
  const captured = await stack.backup({
    paused: async () => {
      await change();
      keep();
    },
    resumed: goOn,
  });
  assert.equal(captured.pointInTime, 'cut');
  await stack.restore();
  assert.deepEqual(await differences(expected, tree, ['cache']), []);
});

test('a file that does not fit into the pause is named, and what to do; the rest is of the mark', async () => {
  await plant();
  const captured = await stack.backup({ clock: laterClock, paused: change, terms: { timeoutMs: 0 } });
  assert.equal(captured.pointInTime, 'own');
  assert.match(stack.ownReason ?? '', /a\/grows.* raise pause_max_ms in tars\.yaml, or set scratch_dir to/);
  assert.doesNotMatch(stack.ownReason ?? '', /deep\/er\/kept/);
  assert.equal(captured.incomplete, undefined);
  keep();
  await stack.restore();
  assert.deepEqual(await differences(expected, tree, ['cache']), []);
});

test('much that has just been written is given the time to rest, and read before the pause', async () => {
  await plant();
  await writeFile(join(tree, 'upload'), Buffer.alloc(34 << 20, 'upload'));
  let [aheadMs, sleeps] = [0, 0];
  const clock: Clock = {
    ...systemClock,
    now: () => new Date(Date.now() + aheadMs),
    sleep: (ms, signal) => {
      // The repository's lock waits, too.
      if (ms !== 2_100) return systemClock.sleep(ms, signal);
      aheadMs += ms;
      sleeps += 1;
      return Promise.resolve();
    },
  };
  const captured = await stack.backup({ clock, terms: { timeoutMs: 0 } });
  assert.equal(captured.pointInTime, 'cut', stack.ownReason);
  assert.equal(sleeps, 1);
  assert.equal(stack.written.filter((path) => path.endsWith('/upload')).length, 1);
});

test('what the pause is too short to look at is looked at afterwards, with a moment of its own', async () => {
  await plant();
  for (let i = 0; i < 600; i++) await writeFile(join(tree, `many-${i}`), '');
  const captured = await stack.backup({ clock: laterClock, paused: change, terms: { timeoutMs: -1 } });
  assert.equal(captured.pointInTime, 'own');
  assert.match(stack.ownReason ?? '', /too short for one look at every file; raise pause_max_ms/);
  keep();
  await stack.restore();
  assert.deepEqual(await differences(expected, tree, ['cache']), []);
});

test('an archive reads after the pause what has rested, and says when it did not rest', async () => {
  await plant();
  const before = { clock: laterClock, storesBefore: false };
  const rested = await stack.backup({
    ...before,
    paused: async () => {
      await change();
      keep();
    },
    resumed: () => appendFile(join(tree, 'a/grows'), 'fixed, so it may change'),
  });
  assert.equal(rested.pointInTime, 'cut');
  await stack.restore();
  assert.deepEqual(await differences(expected, tree, ['cache']), []);

  await plant();
  const moved = await stack.backup({ ...before, resumed: () => appendFile(join(tree, 'mode'), 'too early') });
  assert.equal(moved.pointInTime, 'own');
  assert.match(stack.ownReason ?? '', /\/mode changed after the pause/);
});

test('what a backup leaves that is killed while it reads, the next one removes', async () => {
  await using small = await startSmallStack();
  const data = join(small.root, 'data');
  await mkdir(data);
  for (let i = 0; i < 12; i++) await writeFile(join(data, `${i}`), randomBytes(3 << 20));
  using database = new DatabaseSync(join(data, 'app.db'));
  database.exec('CREATE TABLE users (name TEXT)');
  const args = await small.changed({ components: { data: { kind: 'files', paths: ['data'] } } });
  const scratch = join(small.root, 'scratch');
  const inScratch = async (): Promise<string[]> => readdir(scratch, { recursive: true });
  const child = spawn(process.execPath, [cliPath, ...args, 'backup'], { stdio: 'ignore' });
  await eventually('it notes what it reads', async () =>
    (await inScratch()).some((name) => /\/note-/.test(name)),
  );
  await end(child);
  assert.notDeepEqual(await inScratch(), []);
  const { exitCode, stderr } = await tars([...args, 'backup']);
  assert.equal(exitCode, 0, stderr);
  assert.deepEqual(await inScratch(), []);
});
