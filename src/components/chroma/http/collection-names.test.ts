import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generationName, isGenerationName } from './collection-names.ts';

test('a generation is named after the collection', () => {
  assert.equal(generationName('abc', 'new', 'r1', '1.0.0'), 'abc_tars_new_r1');
  assert.equal(generationName('abc', 'prev', 'r1', '0.6.3'), 'abc_tars_prev_r1');
  assert.equal(isGenerationName('abc_tars_prev_r1'), true);
  assert.equal(isGenerationName('my_tars_new_collection'), true);
  assert.equal(isGenerationName('tars_probe'), false);
});

test('names at the limit stay within it and apart', () => {
  for (const [version, limit] of [
    ['1.0.0', 512],
    ['0.6.3', 63],
  ] as const) {
    const suffixLength = '_tars_new_20261124'.length;
    const fitting = 'x'.repeat(limit - suffixLength);
    assert.equal(generationName(fitting, 'new', '20261124', version), `${fitting}_tars_new_20261124`);
    const names = ['a', 'b'].map((last) => `${'x'.repeat(limit - 1)}${last}`);
    const [first, second] = names.map((name) => generationName(name, 'new', '20261124', version));
    assert.equal(first?.length, limit);
    assert.notEqual(first, second);
    assert.match(first, /^[a-zA-Z0-9][a-zA-Z0-9._-]*[a-zA-Z0-9]$/);
    assert.equal(isGenerationName(first), true);
  }
});
