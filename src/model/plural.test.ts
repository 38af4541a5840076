import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counted } from './plural.ts';

test('one of a thing is singular, none and several are plural', () => {
  assert.equal(counted(1, 'table'), '1 table');
  assert.equal(counted(0, 'table'), '0 tables');
  assert.equal(counted(12, 'table'), '12 tables');
  assert.equal(counted(2, 'entry', 'entries'), '2 entries');
});
