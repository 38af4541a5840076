import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptionError, InterruptedError } from '../../model/errors.ts';
import type { Bytes } from '../../ports/artifacts.ts';
import { readContent } from './content.ts';

// eslint-disable-next-line @typescript-eslint/require-await -- a body
async function* bodyOf(text: string): Bytes {
  yield Buffer.from(text);
}

test('a damaged RDB is named, whatever was found in it', async () => {
  const damaged = readContent(() => bodyOf('no RDB at all'), undefined, '/data/dump.rdb');
  await assert.rejects(damaged, (error) => {
    assert.ok(error instanceof CorruptionError);
    assert.match(error.message, /^Cannot read \/data\/dump\.rdb: This is not an RDB file/);
    return true;
  });
  const interrupted = readContent(
    () => {
      throw new InterruptedError();
    },
    undefined,
    '/data/dump.rdb',
  );
  await assert.rejects(interrupted, { code: 'interrupted', message: 'Interrupted' });
});
