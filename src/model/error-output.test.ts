import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ErrorOutput } from './error-output.ts';

test('a password that a long statement ends with is hidden, wherever the output is cut', () => {
  for (const fillChars of [0, 3000, 4050, 4090, 5000, 65_500]) {
    const output = new ErrorOutput();
    const text = `CREATE ROLE r PASSWORD 'sesame-opens' VALID UNTIL '${'x'.repeat(fillChars)}'\n`;
    for (const piece of text.match(/[^]{1,700}/g) ?? []) output.add(Buffer.from(piece));
    output.add(Buffer.from('ERROR: no\n'));
    assert.doesNotMatch(output.toString(), /sesame|opens/, String(fillChars));
    assert.match(output.toString(), /ERROR: no$/);
    assert.ok(output.toString().length <= 4096);
  }
});
