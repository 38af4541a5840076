import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptionError, TarsError } from './errors.ts';
import { decodeManifest, encodeManifest, manifestSchemaVersion, type Manifest } from './manifest.ts';

const manifest: Manifest = {
  schemaVersion: 1,
  stack: 'tars-home',
  toolVersion: '0.1.0',
  hostname: 'box',
  time: '2026-11-24T00:00:00.000Z',
  startedAt: '2026-11-24T00:00:00.000Z',
  finishedAt: '2026-11-24T00:00:01.000Z',
  consistency: 'cut',
  writerPauseMs: 12.5,
  outcome: 'complete',
  components: [],
  notCaptured: [],
};

test('a manifest survives encoding and decoding', () => {
  assert.deepEqual(decodeManifest(encodeManifest(manifest), 'x'), manifest);
});

test('a manifest of a later schema is refused as an unsupported version', () => {
  const later = new TextEncoder().encode(
    JSON.stringify({ ...manifest, schemaVersion: manifestSchemaVersion + 1 }),
  );
  assert.throws(
    () => decodeManifest(later, 'x'),
    (error) => error instanceof TarsError && error.code === 'unsupported-version',
  );
});

test('a manifest with a damaged field is corruption', () => {
  const damaged = new TextEncoder().encode(JSON.stringify({ ...manifest, outcome: 'fine' }));
  assert.throws(() => decodeManifest(damaged, 'x'), CorruptionError);
  assert.throws(() => decodeManifest(new Uint8Array([0xff]), 'x'), CorruptionError);
});
