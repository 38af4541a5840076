import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Exclusions } from './exclusions.ts';

/** Of these, what is left out; a directory ends in a slash. */
const paths = [
  'cache/',
  'sub/cache/',
  'sub/cache.txt',
  'a.tmp',
  'sub/b.tmp',
  'sub/b.TMP',
  'keep',
  'n\udce9.tmp',
];
const leftOut = (...patterns: string[]): string[] => {
  const exclusions = new Exclusions(patterns);
  return paths.filter((path) => exclusions.excludes(path.replace(/\/$/, ''), path.endsWith('/')));
};

test('patterns mean what they mean in a .gitignore', () => {
  assert.deepEqual(leftOut(), []);
  assert.deepEqual(leftOut('cache'), ['cache/', 'sub/cache/']);
  assert.deepEqual(leftOut('cache/'), ['cache/', 'sub/cache/']);
  assert.deepEqual(leftOut('/cache'), ['cache/']);
  assert.deepEqual(leftOut('./cache'), ['cache/']);
  assert.deepEqual(leftOut('sub/cache'), ['sub/cache/']);
  assert.deepEqual(leftOut('**/cache'), ['cache/', 'sub/cache/']);
  assert.deepEqual(leftOut('keep/'), []);
  assert.deepEqual(leftOut('*.tmp'), ['a.tmp', 'sub/b.tmp', 'n\udce9.tmp']);
  assert.deepEqual(leftOut('*.tmp', '!a.tmp'), ['sub/b.tmp', 'n\udce9.tmp']);
});

test('a pattern that matches nothing is known by then', () => {
  const exclusions = new Exclusions(['cache', '*.log', '!a.tmp', '*.tmp', '!never']);
  for (const path of ['cache', 'a.tmp', 'other']) exclusions.excludes(path, false);
  assert.deepEqual(exclusions.unmatched, ['*.log', '!never']);
});

test('what was asked before is forgotten, and answered the same', () => {
  const exclusions = new Exclusions(['x9999', '*.tmp']);
  let excluded = 0;
  for (let i = 0; i < 25_000; i++) if (exclusions.excludes(`d${i % 100}/x${i}`, false)) excluded++;
  assert.equal(excluded, 1);
});
