import assert from 'node:assert/strict';
import { test } from 'node:test';
import { refusalOfNode } from './node-version.ts';

test('Node from 24 on will do, and an older one is named', () => {
  for (const version of ['24.0.0', '24.21.0', '25.1.0']) assert.equal(refusalOfNode(version), undefined);
  for (const version of ['18.20.4', '20.20.2', '22.15.0', '23.11.1'])
    assert.match(refusalOfNode(version) ?? '', new RegExp(`Node 24 .*${version.replaceAll('.', '\\.')}`));
});
