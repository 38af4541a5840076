import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findsRecord, type SearchHit } from './search-probe.ts';

const vector = Float32Array.of(3, 4);
const record = { id: 'own', vector };
const hits = (...found: [string, number | null][]): SearchHit[] =>
  found.map(([id, distance]) => ({ id, distance }));

test('a record among the hits is found', () => {
  assert.equal(findsRecord(hits(['a', 0.2], ['own', 0]), record, 2, 'l2'), true);
});

test('a record that is not among the hits is missed when they lie further away', () => {
  assert.equal(findsRecord(hits(['a', 0.2], ['b', 0.3]), record, 2, 'l2'), false);
  assert.equal(findsRecord(hits(['a', -23.5], ['b', -3]), record, 2, 'ip'), false);
  assert.equal(findsRecord([], record, 2, 'cosine'), false);
  assert.equal(findsRecord(hits(['a', null], ['b', null]), record, 2, 'cosine'), false);
});

test('as many others that lie as near excuse it', () => {
  assert.equal(findsRecord(hits(['a', 0], ['b', 1e-6]), record, 2, 'l2'), true);
  assert.equal(findsRecord(hits(['a', -99], ['b', -24]), record, 2, 'ip'), true);
  assert.equal(findsRecord(hits(['a', 0]), record, 2, 'l2'), false, 'the server returned too few');
});
