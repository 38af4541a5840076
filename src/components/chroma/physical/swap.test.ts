import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { CorruptionError } from '../../../model/errors.ts';
import type { SwapRecord } from '../../../model/restore-plan.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { directorySwaps } from '../../paths/path-swap.ts';
import { physicalGeneration, swapPersistDirectory, type PhysicalSwap } from './swap.ts';

const ctx = {} as OperationContext;
const journal = 'chroma.sqlite3-journal';
let live: string;
beforeEach(async () => {
  live = await mkdtemp(join(tmpdir(), 'tars-mount-'));
});
afterEach(() => rm(live, { recursive: true, force: true }));

/** What staging records for a mount point that holds a file and two indexes. */
async function stagedInMount(): Promise<PhysicalSwap> {
  const stage = {
    stagedDir: join(live, '.tars-new-r1'),
    previousDir: join(live, '.tars-prev-r1'),
    mode: 'entries' as const,
  };
  for (const name of ['chroma.sqlite3', 'index-a', 'index-b'])
    await writeFile(join(live, name), `old ${name}`);
  await mkdir(stage.stagedDir);
  for (const name of ['chroma.sqlite3', 'index-a', 'index-c']) {
    await writeFile(join(stage.stagedDir, name), `new ${name}`);
  }
  return { method: 'physical', live, stage, swaps: await directorySwaps(live, stage) };
}

const recordOf = (swap: PhysicalSwap): SwapRecord => ({
  component: 'chroma',
  kind: 'chroma',
  wayBack: [],
  details: JSON.parse(JSON.stringify(swap)) as Record<string, unknown>,
});

const visible = async (): Promise<string[]> => (await readdir(live)).filter((name) => !name.startsWith('.'));

test('a journal and an index that appear after staging move aside, and come back on undo', async () => {
  const swap = await stagedInMount();
  await writeFile(join(live, journal), 'hot');
  await writeFile(join(live, 'index-late'), 'late');
  await rm(join(live, 'index-b'));
  await swapPersistDirectory(swap);
  assert.deepEqual(await visible(), ['chroma.sqlite3', 'index-a', 'index-c']);
  assert.equal(await readFile(join(live, 'chroma.sqlite3'), 'utf8'), 'new chroma.sqlite3');
  const generation = physicalGeneration(recordOf(swap));
  await generation.undo(ctx);
  await generation.undo(ctx);
  assert.deepEqual(await readdir(live), ['chroma.sqlite3', journal, 'index-a', 'index-late']);
  assert.equal(await readFile(join(live, journal), 'utf8'), 'hot');
  assert.equal(await readFile(join(live, 'chroma.sqlite3'), 'utf8'), 'old chroma.sqlite3');
});

test('a journal of the restored file goes with it on undo', async () => {
  const swap = await stagedInMount();
  await swapPersistDirectory(swap);
  await writeFile(join(live, journal), 'of the restored file');
  await physicalGeneration(recordOf(swap)).undo(ctx);
  assert.deepEqual(await readdir(live), ['chroma.sqlite3', 'index-a', 'index-b']);
});

test('a swap killed after any of its moves is finished or undone', async () => {
  const swap = await stagedInMount();
  await writeFile(join(live, journal), 'hot');
  const moves: [string, string][] = [
    [join(live, journal), join(swap.stage.previousDir, journal)],
    [join(live, 'chroma.sqlite3'), join(swap.stage.previousDir, 'chroma.sqlite3')],
    [join(swap.stage.stagedDir, 'chroma.sqlite3'), join(live, 'chroma.sqlite3')],
    [join(live, 'index-a'), join(swap.stage.previousDir, 'index-a')],
  ];
  for (const ending of ['undo', 'finish'] as const) {
    for (let done = 0; done <= moves.length; done++) {
      await rm(live, { recursive: true });
      await mkdir(live);
      const fresh = await stagedInMount();
      await writeFile(join(live, journal), 'hot');
      await mkdir(fresh.stage.previousDir);
      for (const [from, to] of moves.slice(0, done)) await rename(from, to);
      if (ending === 'undo') {
        await physicalGeneration(recordOf(fresh)).undo(ctx);
        assert.deepEqual(await readdir(live), ['chroma.sqlite3', journal, 'index-a', 'index-b'], `${done}`);
        assert.equal(await readFile(join(live, 'chroma.sqlite3'), 'utf8'), 'old chroma.sqlite3', `${done}`);
      } else {
        await swapPersistDirectory(fresh);
        assert.deepEqual(await visible(), ['chroma.sqlite3', 'index-a', 'index-c'], `${done}`);
        await physicalGeneration(recordOf(fresh)).discardPrevious(ctx);
        assert.equal(await readFile(join(live, 'index-a'), 'utf8'), 'new index-a', `${done}`);
      }
    }
  }
});

test("another component's record is refused", () => {
  const record = { component: 'chroma', kind: 'chroma', wayBack: [], details: { method: 'other' } };
  assert.throws(() => physicalGeneration(record), CorruptionError);
});
