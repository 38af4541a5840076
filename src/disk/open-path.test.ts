import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { messageOf } from '../model/errors.ts';
import { openPath } from './open-path.ts';

test('a directory that does not exist is named as the operator wrote it, with what to do', async () => {
  const root = await mkdtemp(join(tmpdir(), 'tars-open-path-'));
  try {
    await assert.rejects(openPath(join(root, 'gone')), {
      code: 'storage-not-found',
      message: `The directory ${join(root, 'gone')} does not exist`,
      hint: 'Create it, mount the disk it is on, or correct the path in tars.yaml.',
    });
    await assert.rejects(openPath('/dev/null'), (error) => !messageOf(error).includes('/proc/self/fd'));
  } finally {
    await rm(root, { recursive: true });
  }
});
