import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findsRecord, isSearchable, type SearchHit } from './search-probe.ts';

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

test('distances that overflow float32 and come as null are no misses', () => {
  const long = { id: 'own', vector: Float32Array.of(3e20, 4e20) };
  assert.equal(isSearchable(long.vector, 'ip'), false);
  assert.equal(isSearchable(long.vector, 'l2'), false);
  assert.equal(isSearchable(long.vector, 'cosine'), true);
  assert.equal(findsRecord(hits(['a', null], ['b', null]), record, 2, 'ip'), true);
  assert.equal(findsRecord(hits(['a', null], ['b', -3]), record, 2, 'ip'), false);
});
