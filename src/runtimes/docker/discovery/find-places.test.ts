import assert from 'node:assert/strict';
import { test } from 'node:test';
import ignore from 'ignore';
import { patternsWithin } from './find-places.ts';

test('what other components capture in a directory is excluded by a pattern for exactly that', () => {
  const inner = ['/p/cache', '/p/cache/deep', '/p/odd [a]*?', '/p/sub/end ', '/other', '/p'];
  const patterns = patternsWithin('/p', inner);
  assert.equal(patterns.length, 3);
  const rules = ignore().add([...patterns]);
  for (const path of ['cache/x', 'odd [a]*?/x', 'sub/end /x']) assert.ok(rules.ignores(path), path);
  for (const path of ['caches/x', 'sub/cache/x', 'odd a1/x', 'sub/end/x', 'sub/x'])
    assert.ok(!rules.ignores(path), path);
});
