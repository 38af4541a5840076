import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fold, formatTable } from './columns.ts';

test('columns stay aligned under names as wide as a terminal shows them', () => {
  assert.deepEqual(
    formatTable(
      ['NAME', '>SIZE', 'WHAT'],
      [
        ['日本語', '1 B', 'three signs, six columns'],
        ['🦙 llama', '22 B', 'an emoji is two'],
        ['n\u0303o', '333 B', 'a combining mark is none'],
      ],
    ).split('\n'),
    [
      'NAME       SIZE  WHAT',
      '日本語      1 B  three signs, six columns',
      '🦙 llama   22 B  an emoji is two',
      'n\u0303o        333 B  a combining mark is none',
    ],
  );
});

test('what is folded fits a terminal by its width, and a word that is too long is left whole', () => {
  assert.deepEqual(fold('- ', '日本語 日本語 日本語 a', 16).split('\n'), ['- 日本語 日本語', '  日本語 a']);
  const path = '/var/lib/a-directory-with-a-long-name';
  assert.deepEqual(fold('  ', `On ${path} now`, 20, 4).split('\n'), ['  On', `    ${path}`, '    now']);
  assert.equal(fold('  ', `On ${path} now`, Infinity), `  On ${path} now`);
});

test('a name does not steer the terminal, and takes the width of what is shown for it', () => {
  const table = formatTable(
    ['NAME', 'WHAT'],
    [
      ['\u001b[2Ja\rb', 'one'],
      ['\u202egpj.exe', 'two'],
    ],
  );
  assert.deepEqual(table.split('\n'), [
    'NAME               WHAT',
    '\\u001b[2Ja\\u000db  one',
    '\\u202egpj.exe      two',
  ]);
});
