import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigurationError } from '../../model/errors.ts';
import { parsePruneLimits } from './prune.ts';

const unusedOf = (maxUnused: string | undefined, usedBytes: number): number =>
  parsePruneLimits({ maxUnused }).maxUnusedBytes(usedBytes);
const repackOf = (maxRepackSize: string | undefined): number =>
  parsePruneLimits({ maxRepackSize }).maxRepackBytes;

test('a share of what is unused is one of all that remains, 5% unless told otherwise', () => {
  assert.equal(unusedOf('50%', 1000), 1000);
  assert.equal(unusedOf('20%', 1000), 250);
  assert.equal(unusedOf('0%', 1000), 0);
  assert.equal(unusedOf(undefined, 950), unusedOf(' 5% ', 950));
  assert.equal(Math.round(unusedOf('5%', 950)), 50);
});

test('sizes are in bytes or in powers of 1024, whatever the case', () => {
  assert.equal(unusedOf('0', 1000), 0);
  assert.equal(unusedOf('200M', 1000), 200 * 2 ** 20);
  assert.equal(unusedOf('unlimited', 1000), Number.POSITIVE_INFINITY);
  assert.equal(repackOf(undefined), Number.POSITIVE_INFINITY);
  assert.equal(repackOf('0'), 0);
  assert.equal(repackOf('10g'), 10 * 2 ** 30);
  assert.equal(repackOf('3T'), 3 * 2 ** 40);
  assert.equal(repackOf('7b'), 7);
});

test('what is no limit is refused by name', () => {
  for (const text of ['', '100%', '-5%', 'five', '1.5G', '5 %', '99999999T', 'infinity']) {
    assert.throws(
      () => unusedOf(text, 1),
      (error) => error instanceof ConfigurationError && error.message === `--max-unused cannot be "${text}"`,
    );
  }
  assert.throws(() => repackOf('5%'), /--max-repack-size cannot be "5%"/);
});
