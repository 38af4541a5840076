import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatMs } from './duration.ts';

test('a duration has the unit that it is read in, and is rounded within it', () => {
  const said = [12, 999.4, 999.5, 1234, 59_949, 59_951, 93_500, 119_600, 900_000].map(formatMs);
  assert.deepEqual(said, [
    ...['12 ms', '999 ms', '1.0 s', '1.2 s', '59.9 s', '1 min 0 s', '1 min 34 s', '2 min 0 s', '15 min 0 s'],
  ]);
});
