import assert from 'node:assert/strict';
import { test } from 'node:test';
import { refusalOfNode } from './node.ts';

test('Node from 22.15 on will do, and an older one is named', () => {
  for (const version of ['22.15.0', '22.20.1', '23.0.0', '24.21.0'])
    assert.equal(refusalOfNode(version), undefined);
  for (const version of ['18.20.4', '20.20.2', '22.9.0', '22.14.0'])
    assert.match(refusalOfNode(version) ?? '', new RegExp(`22\\.15 .*${version.replaceAll('.', '\\.')}`));
});
