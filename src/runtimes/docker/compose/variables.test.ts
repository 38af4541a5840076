import assert from 'node:assert/strict';
import { test } from 'node:test';
import { interpolate, parseEnvFile } from './variables.ts';

test('environment files are read as Compose reads them', () => {
  const text = [
    '# comment',
    'A=plain # comment',
    'export B="with \\"quotes\\" and # no comment"',
    "C='single $A'",
    'D=',
    '  E = spaced ',
    'F=a#b',
    'G="two',
    'lines"',
    'not an assignment',
    'H=last',
  ].join('\n');
  assert.deepEqual(parseEnvFile(text), {
    A: 'plain',
    B: 'with "quotes" and # no comment',
    C: 'single $A',
    D: '',
    E: 'spaced',
    F: 'a#b',
    G: 'two\nlines',
    H: 'last',
  });
});

test('variables are put in as Compose puts them in', () => {
  const variables = { A: 'a', EMPTY: '' };
  const cases: readonly (readonly [string, string])[] = [
    ['$A-${A}', 'a-a'],
    ['$$A $${A}', '$A ${A}'],
    ['${NONE:-x} ${EMPTY:-x} ${EMPTY-x} ${NONE-x}', 'x x  x'],
    ['${A:+y} ${EMPTY:+y} ${EMPTY+y} ${NONE+y}', 'y  y '],
    ['${NONE:-${A}/${NONE:-deep}}!', 'a/deep!'],
    ['${A:?needed}', 'a'],
    ['$NONE.', '.'],
    ['100%$ ', '100%$ '],
  ];
  for (const [text, expected] of cases) assert.equal(interpolate(text, variables), expected, text);
  assert.throws(() => interpolate('${NONE:?needed}', variables), /needs the variable NONE/);
});
