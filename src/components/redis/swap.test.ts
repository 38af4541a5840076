import assert from 'node:assert/strict';
import { chown, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { testContext } from '../../../test/fixtures/context.ts';
import { FileSwap, recordOf } from './swap.ts';

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
      const refused = { code: 'restore-failed', message: /is not what tars created/ };
      for (const plant of ['directory', 'link'] as const) {
        if (plant === 'link') await symlink(planted, previousDir);
        else {
          await mkdir(previousDir, { mode: 0o700 });
          await writeFile(join(previousDir, 'swap.json'), JSON.stringify([swap]));
          await chown(previousDir, nobody, nobody);
        }
        await assert.rejects(swapped.undo(testContext()), refused);
        await assert.rejects(swapped.discardPrevious(), refused);
        assert.deepEqual((await readdir(outside)).sort(), ['kept', 'previous']);
        await rm(previousDir, { recursive: true });
      }
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  },
);
