import assert from 'node:assert/strict';
import { chown, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { execa } from 'execa';
import { testContext } from '../../../test/fixtures/context.ts';
import type { RedisAddress } from './connection/connection.ts';
import { PreviousDataGoneError } from '../../model/errors.ts';
import { FileSwap, recordOf } from './swap.ts';

test('a data directory that is gone is no data put back', async () => {
  const dataDir = join(tmpdir(), 'tars-redis-swap-gone');
  const [stagedDir, previousDir] = [join(dataDir, '.tars-new-r1'), join(dataDir, '.tars-prev-r1')];
  const place = { dataDir, stagedDir, previousDir, names: ['dump.rdb'] };
  await assert.rejects(
    FileSwap.from(recordOf('redis', place, [])).undo(testContext()),
    PreviousDataGoneError,
  );
});

test(
  'a note that the server’s user planted moves and deletes nothing',
  { skip: process.getuid?.() !== 0 },
  async () => {
    const nobody = 65_534;
    const root = await mkdtemp(join(tmpdir(), 'tars-redis-swap-'));
    try {
      const [dataDir, outside] = [join(root, 'data'), join(root, 'outside')];
      const [stagedDir, previousDir] = [join(dataDir, '.tars-new-r1'), join(dataDir, '.tars-prev-r1')];
      const planted = join(root, 'planted');
      for (const path of [dataDir, outside, planted]) await mkdir(path, { mode: 0o700 });
      for (const name of ['kept', 'previous']) await writeFile(join(outside, name), name);
      const swap = {
        live: join(outside, 'kept'),
        staged: null,
        previous: join(outside, 'previous'),
        hadLive: true,
      };
      await writeFile(join(planted, 'swap.json'), JSON.stringify([swap]));
      for (const path of [dataDir, planted]) await chown(path, nobody, nobody);
      const swapped = FileSwap.from(
        recordOf('redis', { dataDir, stagedDir, previousDir, names: ['dump.rdb'] }, []),
      );
      const plant = async (): Promise<void> => {
        await mkdir(previousDir, { mode: 0o700 });
        await writeFile(join(previousDir, 'swap.json'), JSON.stringify([swap]));
        await chown(previousDir, nobody, nobody);
      };
      // Names that the journal does not have.
      await plant();
      await assert.rejects(swapped.undo(testContext()), { code: 'corruption' });
      await assert.rejects(swapped.discardPrevious(), { code: 'corruption' });
      // Its own names, in another directory.
      swap.live = join(outside, 'dump.rdb');
      await writeFile(join(previousDir, 'swap.json'), JSON.stringify([swap]));
      await swapped.discardPrevious();
      assert.deepEqual((await readdir(outside)).sort(), ['kept', 'previous']);
      assert.deepEqual(await readdir(dataDir), []);
      // A directory that lies elsewhere.
      await symlink(planted, previousDir);
      const refused = { code: 'restore-failed', message: /another user owns it, or may write there/ };
      await assert.rejects(swapped.undo(testContext()), refused);
      await assert.rejects(swapped.discardPrevious(), refused);
      assert.deepEqual((await readdir(outside)).sort(), ['kept', 'previous']);
      await rm(previousDir);
      // A swap does not begin in what is another's.
      await plant();
      await rm(join(previousDir, 'swap.json'));
      const stopped = { host: '127.0.0.1', port: 1 };
      await assert.rejects(swapped.carryOut(stopped as RedisAddress, testContext()), refused);
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  },
);

test('a server that makes the previous directory its own stands in the way of nothing', async () => {
  const root = await mkdtemp(join(tmpdir(), 'tars-redis-swap-'));
  try {
    const place = {
      ...{ dataDir: root, stagedDir: join(root, '.tars-new-r1'), previousDir: join(root, '.tars-prev-r1') },
      names: ['dump.rdb', 'appendonlydir'],
    };
    const live = (): Promise<string> => readFile(join(root, 'dump.rdb'), 'utf8');
    const swapped = FileSwap.from(recordOf('redis', place, []));
    const stopped = { host: '127.0.0.1', port: 1 } as RedisAddress;
    for (const end of ['undo', 'discard'] as const) {
      await writeFile(join(root, 'dump.rdb'), 'then');
      await mkdir(place.stagedDir);
      await writeFile(join(place.stagedDir, 'dump.rdb'), 'restored');
      await swapped.carryOut(stopped, testContext());
      assert.equal(await live(), 'restored');
      if (process.getuid?.() === 0) await execa('chown', ['-R', '65534', root]);
      await execa('chmod', ['-R', 'go+rwx', root]);
      if (end === 'undo') await swapped.undo(testContext());
      else await swapped.discardPrevious();
      assert.equal(await live(), end === 'undo' ? 'then' : 'restored');
      assert.deepEqual(await readdir(root), ['dump.rdb']);
    }
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
