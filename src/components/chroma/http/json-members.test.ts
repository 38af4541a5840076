import assert from 'node:assert/strict';
import { test } from 'node:test';
import { itemTexts, memberTexts } from './json-members.ts';

const values: readonly string[] = [
  '1',
  '-1.50e+3',
  'null',
  '"a,b}]{["',
  String.raw`"quote \" and backslash \\"`,
  String.raw`"\\"`,
  '[]',
  '{}',
  '[[1,2],[3.0,"]"],{"k":"}"}]',
  '{"a":{"b":[1,{"c":"\\"}"}]},"ü":2}',
];

test('members come back with the text they had', () => {
  const text = ` {\n${values.map((value, i) => `"k\\u0020${i}" : ${value}`).join(' ,\t')} } `;
  assert.deepEqual(
    [...memberTexts(text)],
    values.map((value, i) => [`k ${i}`, value]),
  );
  assert.equal(memberTexts('{}').size, 0);
});

test('items come back with the text they had', () => {
  assert.deepEqual(itemTexts(` [ ${values.join(' , ')} ]`), values);
  assert.deepEqual(itemTexts('[ ]'), []);
});

test('what is cut off or of another type is refused', () => {
  for (const text of ['', '[]', '{"a"', '{"a":', '{"a":"', '{"a":[1,2', '{"a":1', '{1:2}', '{"a" 1}']) {
    assert.throws(() => memberTexts(text), SyntaxError, text);
  }
  for (const text of ['', '{}', '[', '[1', '["a', '[[1]'])
    assert.throws(() => itemTexts(text), SyntaxError, text);
});
