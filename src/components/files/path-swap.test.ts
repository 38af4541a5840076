import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import {
  directorySwaps,
  discardPreviousPaths,
  stageBeside,
  swapPaths,
  undoPaths,
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
