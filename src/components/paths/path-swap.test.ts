import { execa } from 'execa';
import assert from 'node:assert/strict';
import {
  chown,
  lchown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { PreviousDataGoneError } from '../../model/errors.ts';
import { openPrivateDirectory } from '../../disk/private-directory.ts';
import {
  directorySwaps,
  discardPreviousPaths,
  removeStagedBeside,
  stageBeside,
  swapPaths,
  undoPaths,
  wayBackLines,
  type PathSwap,
} from './path-swap.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-swap-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function stagedOver(live: string, hadLive: boolean): Promise<PathSwap[]> {
  if (hadLive) {
    await mkdir(live);
    await writeFile(join(live, 'file'), 'old');
  }
  const stage = await stageBeside(live, 'r1');
  await writeFile(join(stage.stagedDir, 'file'), 'new');
  return directorySwaps(live, stage);
}

const content = (live: string): Promise<string> => readFile(join(live, 'file'), 'utf8');

for (const hadLive of [true, false]) {
  test(`swap, undo and discard with ${hadLive ? 'an existing' : 'no'} live directory`, async () => {
    const live = join(root, 'store');
    const swaps = await stagedOver(live, hadLive);
    await swapPaths(swaps);
    await swapPaths(swaps);
    assert.equal(await content(live), 'new');
    await undoPaths(swaps);
    await undoPaths(swaps);
    assert.deepEqual(await readdir(root), hadLive ? ['store'] : []);
    if (hadLive) assert.equal(await content(live), 'old');
  });
}

test('discarding the previous data leaves only the new', async () => {
  const live = join(root, 'store');
  const swaps = await stagedOver(live, true);
  await swapPaths(swaps);
  await discardPreviousPaths(swaps);
  assert.deepEqual(await readdir(root), ['store']);
  assert.equal(await content(live), 'new');
});

test('undo restores the old data from between the two renames, and the swap can be finished from there', async () => {
  const live = join(root, 'store');
  const [swap] = await stagedOver(live, true);
  assert.ok(swap);
  await rename(swap.live, swap.previous);
  await swapPaths([swap]);
  assert.equal(await content(live), 'new');
  await rename(swap.live, swap.staged ?? '');
  await undoPaths([swap]);
  assert.equal(await content(live), 'old');
  assert.deepEqual(await readdir(root), ['store']);
});

test('entries of a mount point are swapped one by one and undone from every prefix', async () => {
  const live = join(root, 'volume');
  for (let done = 0; done <= 3; done++) {
    await mkdir(live);
    for (const name of ['a', 'b']) await writeFile(join(live, name), `old ${name}`);
    const stagedDir = join(live, '.tars-new-r1');
    await mkdir(stagedDir);
    for (const name of ['b', 'c']) await writeFile(join(stagedDir, name), `new ${name}`);
    const swaps = await directorySwaps(live, {
      stagedDir,
      previousDir: join(live, '.tars-prev-r1'),
      mode: 'entries',
    });
    await swapPaths(swaps.slice(0, done));
    if (done === 3) {
      assert.deepEqual(
        (await readdir(live)).filter((name) => !name.startsWith('.')),
        ['b', 'c'],
      );
    }
    await undoPaths(swaps);
    assert.deepEqual(await readdir(live), ['a', 'b'], `after ${done} swaps`);
    assert.equal(await readFile(join(live, 'b'), 'utf8'), 'old b');
    await rm(live, { recursive: true });
  }
});

test('what something else put into the gap between the two renames is kept aside, and said', async () => {
  const live = join(root, 'store');
  const [swap] = await stagedOver(live, true);
  assert.ok(swap);
  await rename(swap.live, swap.previous);
  await mkdir(live);
  await writeFile(join(live, 'file'), 'stranger');
  const said: string[] = [];
  await undoPaths([swap], (message) => said.push(message));
  await undoPaths([swap], (message) => said.push(message));
  assert.equal(await content(live), 'old');
  assert.equal(await content(`${swap.previous}.stray`), 'stranger');
  assert.equal(said.length, 1);
  assert.match(said[0] ?? '', /stray/);
});

test('when all that was there before is gone, that is said, and what is partly there is put back', async () => {
  const swaps = ['one', 'two'].map((name) => ({
    ...{ live: join(root, name), staged: join(root, `${name}.new`), previous: join(root, `${name}.prev`) },
    hadLive: true,
  }));
  await assert.rejects(undoPaths(swaps), PreviousDataGoneError);
  await assert.rejects(undoPaths(swaps), /one and its previous data in .*one\.prev/);
  await writeFile(join(root, 'two.prev'), 'old');
  await undoPaths(swaps);
  assert.equal(await readFile(join(root, 'two'), 'utf8'), 'old');
  await undoPaths(swaps.map((swap) => ({ ...swap, live: `${swap.live}.never`, hadLive: false })));
});

test('what appeared at the live path since the staging is not written over', async () => {
  const live = join(root, 'file');
  const swap = { live, staged: `${live}.new`, previous: `${live}.prev`, hadLive: false };
  await writeFile(swap.staged, 'new');
  await writeFile(live, 'appeared');
  await assert.rejects(swapPaths([swap]), /was created after/);
  await undoPaths([swap]);
  assert.equal(await readFile(live, 'utf8'), 'appeared');
  assert.deepEqual(await readdir(root), ['file']);
});

test('a linked live directory is exchanged where it is, and the link stays', async () => {
  const target = join(root, 'elsewhere');
  const real = join(target, 'store');
  const link = join(root, 'link');
  await mkdir(real, { recursive: true });
  await symlink(real, link);
  await writeFile(join(real, 'file'), 'old');
  const stage = await stageBeside(link, 'r1');
  await writeFile(join(stage.stagedDir, 'file'), 'new');
  const swaps = await directorySwaps(link, stage);
  await swapPaths(swaps);
  assert.equal(await content(link), 'new');
  assert.equal(await readlink(link), real);
  await undoPaths(swaps);
  assert.equal(await content(link), 'old');
  await stageBeside(link, 'r2');
  await removeStagedBeside(link, 'r2');
  assert.deepEqual([await readdir(root), await readdir(target)], [['elsewhere', 'link'], ['store']]);
});

test('the way back works as printed where nothing was before', async () => {
  const live = join(root, 'volume');
  await mkdir(live);
  const stagedDir = join(live, '.tars-new-r1');
  await mkdir(stagedDir);
  await writeFile(join(stagedDir, 'a'), 'new');
  const stage = { stagedDir, previousDir: join(live, '.tars-prev-r1'), mode: 'entries' } as const;
  const swaps = await directorySwaps(live, stage);
  await swapPaths(swaps);
  await execa('sh', ['-euc', wayBackLines(swaps).join('\n')]);
  assert.deepEqual(
    (await readdir(live)).filter((name) => !name.startsWith('.')),
    [],
  );
});

test(
  'a bind mount of the same file system is exchanged entry by entry',
  { skip: process.getuid?.() !== 0 },
  async () => {
    const [live, volume] = [join(root, 'a store'), join(root, 'volume')];
    for (const path of [live, volume]) await mkdir(path);
    await writeFile(join(volume, 'file'), 'old');
    await execa('mount', ['--bind', volume, live]);
    try {
      const stage = await stageBeside(live, 'r1');
      await writeFile(join(stage.stagedDir, 'file'), 'new');
      const swaps = await directorySwaps(live, stage);
      await swapPaths(swaps);
      assert.equal(await content(live), 'new');
      await undoPaths(swaps);
      assert.equal(await content(live), 'old');
    } finally {
      await execa('umount', [live]);
    }
  },
);

test(
  'a link that the service planted beside its data leads no rename and no removal elsewhere',
  { skip: process.getuid?.() !== 0 },
  async () => {
    const nobody = 65_534;
    const [data, outside] = [join(root, 'data'), join(root, 'outside')];
    for (const path of [data, outside, join(outside, 'kept')]) await mkdir(path);
    for (const name of ['.tars-new-r1', '.tars-prev-r1']) {
      await symlink(outside, join(data, name));
      await lchown(join(data, name), nobody, nobody);
    }
    await chown(data, nobody, nobody);
    await writeFile(join(data, 'dump.rdb'), 'live');
    const [staged, previous] = [join(data, '.tars-new-r1', 'kept'), join(data, '.tars-prev-r1', 'kept')];
    const swap: PathSwap = {
      live: join(data, 'dump.rdb'),
      staged: null,
      previous: `${previous}.rdb`,
      hadLive: true,
    };
    const refused = { code: 'access-denied', message: /symbolic link that users other than root may change/ };
    await assert.rejects(swapPaths([swap]), refused);
    await assert.rejects(undoPaths([{ ...swap, staged, hadLive: false }]), refused);
    await assert.rejects(discardPreviousPaths([{ ...swap, previous }]), refused);
    await assert.rejects(openPrivateDirectory(join(data, '.tars-new-r1')), refused);
    await mkdir(join(data, 'own'), { mode: 0o700 });
    await chown(join(data, 'own'), nobody, nobody);
    await assert.rejects(openPrivateDirectory(join(data, 'own')), /another user owns it, or may write there/);
    assert.deepEqual(await readdir(outside), ['kept']);
    assert.equal(await readFile(join(data, 'dump.rdb'), 'utf8'), 'live');
  },
);
