import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Manifest } from '../model/manifest.ts';
import {
  describeLoss,
  describeShrinkage,
  findShrinkage,
  holdingsOf,
  joinHoldings,
} from '../model/shrinkage.ts';
import { countAmounts } from './kinds.ts';

type Component = Manifest['components'][number];

const component = (
  name: string,
  facts: Record<string, unknown>,
  sizeBytes = 0,
  method = 'dump',
): Component => ({
  ...{ name, kind: name, outcome: 'captured', method, facts },
  artifacts: [{ path: `${name}/a`, sizeBytes, sha256: '0'.repeat(64) }],
});

const manifest = (...components: Component[]): Manifest => ({
  ...{ schemaVersion: 1, stack: 'home', toolVersion: '0', hostname: 'box' },
  ...{ time: '2026-01-01T00:00:00Z', startedAt: '', finishedAt: '', consistency: 'cut', outcome: 'complete' },
  components,
  notCaptured: [],
});

const said = (before: Component[], after: Component[]): string[] =>
  findShrinkage(
    holdingsOf(manifest(...before), countAmounts),
    holdingsOf(manifest(...after), countAmounts),
  ).map((shrinkage) => describeShrinkage(shrinkage, true));

const postgres = (rows: number, sizeBytes = 0): Component =>
  component(
    'postgres',
    {
      databases: [
        { content: { tables: [{ rows }, { rows: 0 }], largeObjects: { count: 0 } } },
        { content: { tables: [], largeObjects: { count: 0 } } },
      ],
    },
    sizeBytes,
  );
const redis = (keys: number): Component => component('redis', { content: { databases: [{ keys }] } });
const chroma = (recordCount: number, vectorCount = recordCount): Component =>
  component('chroma', { tenants: [{ databases: [{ collections: [{ recordCount, vectorCount }] }] }] });
const ollama = (modelBytes: number[], storedBytes: number): Component =>
  component('ollama', { models: modelBytes.map((sizeBytes) => ({ blobs: [{ sizeBytes }] })) }, storedBytes);

test('rows, keys, records, vectors, models and files are counted', () => {
  assert.deepEqual(said([postgres(1000)], [postgres(500)]), ['postgres had 1000 rows and now has 500']);
  assert.deepEqual(said([postgres(1000)], [postgres(501)]), []);
  assert.deepEqual(said([redis(20)], [redis(3)]), ['redis had 20 keys and now has 3']);
  assert.deepEqual(said([chroma(40)], [chroma(40, 20)]), ['chroma had 40 vectors and now has 20']);
  assert.deepEqual(said([ollama([5, 5], 0)], [ollama([], 0)]), ['ollama had 2 models and now has 0']);
  const file = { path: 'files/a', sizeBytes: 0, sha256: '0'.repeat(64) };
  const files = (count: number): Component => ({
    ...component('files', {}),
    artifacts: Array<typeof file>(count).fill(file),
  });
  const list = { path: 'manifest.d/files.jsonl', sizeBytes: 1, sha256: file.sha256, artifactBytes: 0 };
  const many = (artifacts: number): Component => ({ ...files(0), artifactList: { ...list, artifacts } });
  assert.deepEqual(said([files(12)], [files(6)]), ['files had 12 files and now has 6']);
  assert.deepEqual(said([many(2000)], [files(900)]), ['files had 2000 files and now has 900']);
  assert.deepEqual(said([files(12)], [{ ...files(0), outcome: 'failed' }]), []);
  const config = (count: number): Component => component('config', { files: Array(count).fill({}) });
  assert.deepEqual(said([config(1)], [config(0)]), ['config had 1 files and now has 0']);
});

test('a few that become fewer say nothing, unless none are left', () => {
  assert.deepEqual(said([redis(9)], [redis(1)]), []);
  assert.deepEqual(said([redis(9)], [redis(0)]), ['redis had 9 keys and now has 0']);
  assert.deepEqual(said([redis(0)], [redis(0)]), []);
});

test('bytes are compared where both were captured alike', () => {
  const unknown = (sizeBytes: number, method = 'dump'): Component =>
    component('other', {}, sizeBytes, method);
  assert.deepEqual(said([unknown(200_000)], [unknown(90_000)]), [
    'other had 200000 bytes (dump) and now has 90000',
  ]);
  assert.deepEqual(said([unknown(200_000)], [unknown(90_000, 'logical')]), []);
  assert.deepEqual(said([unknown(20_000)], [unknown(0)]), []);
  // Models that were stored whole once and listed only since are still there.
  assert.deepEqual(said([ollama([900_000], 900_000)], [ollama([900_000], 100)]), []);
  assert.deepEqual(said([ollama([900_000], 0)], [ollama([90_000], 0)]), [
    'ollama had 900000 bytes (models) and now has 90000',
  ]);
});

test('a component that is missing has shrunk, a new one has not', () => {
  assert.deepEqual(said([postgres(1)], [redis(5)]), [
    'postgres was in the previous snapshot and is not in the newest',
  ]);
  assert.deepEqual(said([], [redis(5)]), []);
  const gone = { component: 'redis', unit: 'components', before: 1, after: 0 };
  assert.equal(describeShrinkage(gone, false), 'redis is no longer in tars.yaml');
  assert.match(describeLoss(gone, 'abc', false), /^redis is no longer in tars.yaml, and abc, .* newest/);
  const emptied = { component: 'redis', unit: 'keys', before: 9, after: 0 };
  assert.equal(describeShrinkage(emptied, false), 'redis had 9 keys and now has 0');
});

test('several snapshots hold the most that any of them does', () => {
  const joined = joinHoldings(
    joinHoldings(
      holdingsOf(manifest(postgres(10), redis(50)), countAmounts),
      holdingsOf(manifest(postgres(1000)), countAmounts),
    ),
    holdingsOf(manifest(redis(3)), countAmounts),
  );
  const lost = (...components: Component[]): string[] =>
    findShrinkage(holdingsOf(manifest(...components), countAmounts), joined).map((found) =>
      describeLoss(found, 'abc', true),
    );
  assert.deepEqual(lost(postgres(1999), redis(99)), []);
  assert.deepEqual(lost(postgres(2000), redis(100), chroma(1)), [
    'postgres has 2000 rows in abc, which would be removed, and at most 1000 in newer snapshots that stay',
    'redis has 100 keys in abc, which would be removed, and at most 50 in newer snapshots that stay',
    'chroma is in abc, which would be removed, and in no newer snapshot that stays',
  ]);
});
