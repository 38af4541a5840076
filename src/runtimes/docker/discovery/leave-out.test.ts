import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reasonToLeaveOut, type PlaceEvidence } from './leave-out.ts';
import { placesOf } from './state-places.ts';

interface Sketch {
  readonly source: string;
  readonly destination: string;
  readonly readOnly?: boolean;
  readonly names?: readonly string[];
  readonly kind?: PlaceEvidence['look']['kind'];
  readonly sizeBytes?: number | undefined;
  readonly image?: string;
}

function reason(sketch: Sketch): string | undefined {
  const { source, destination, readOnly = false, names = [], kind = 'directory', image = 'app' } = sketch;
  const isBind = source.startsWith('/');
  const [place] = placesOf(
    [
      {
        ...{ service: 'app', source, destination, readOnly, path: isBind ? source : `/volumes/${source}` },
        type: isBind ? 'bind' : 'volume',
        measure: () => Promise.resolve(undefined),
      },
    ],
    { project: 'p', directory: '/srv/p' },
  );
  assert.ok(place !== undefined);
  const sizeBytes = 'sizeBytes' in sketch ? sketch.sizeBytes : 1000;
  return reasonToLeaveOut(place, {
    look: {
      ...{ kind, canRead: true, canAccess: true },
      names: names.filter((name) => !name.includes('/')),
      below: names.filter((name) => name.includes('/')),
    },
    ...{ sizeBytes, images: [image] },
  });
}

test('what applications keep for good is captured', () => {
  for (const [source, destination] of [
    ['p_n8n_storage', '/home/node/.n8n'],
    ['open-webui', '/app/backend/data'],
    ['/srv/p/volumes/app/storage', '/app/api/storage'],
    ['qdrant_storage', '/qdrant/storage'],
    ['/srv/p/meili_data_v1.12', '/meili_data'],
    ['clickhouse', '/var/lib/clickhouse'],
    ['db-config', '/etc/postgresql-custom'],
    ['/root/.flowise', '/root/.flowise'],
    ['letsencrypt', '/etc/letsencrypt'],
    ['p_cache', '/data'],
    ['catalogue', '/app/catalogs'],
    ['/run/media/me/disk', '/photos'],
  ] as const)
    assert.equal(reason({ source, destination }), undefined, destination);
});

test('caches, logs, temporary files and what is downloaded or installed again are recognised by name', () => {
  const reasons = [
    ['model-cache', '/cache', 'a cache'],
    ['hf', '/root/.cache/huggingface', 'models that are downloaded again'],
    ['pip', '/root/.cache/pip', 'a cache'],
    ['/srv/p/logs', '/app/api/logs', 'logs'],
    ['ch_logs', '/var/log/clickhouse-server', 'logs'],
    ['mods', '/app/node_modules', 'packages that are installed again'],
    ['tmp', '/tmp/work', 'temporary files'],
    ['sockets', '/var/run/postgresql', 'sockets and process ids'],
  ] as const;
  for (const [source, destination, why] of reasons) assert.equal(reason({ source, destination }), why);
  const image = 'ghcr.io/huggingface/text-embeddings-inference:cpu-1.5';
  assert.equal(reason({ source: 'tei', destination: '/data', image }), 'models that are downloaded again');
});

test('what lies there decides before a name does', () => {
  const cache = { source: 'c', destination: '/app/cache' };
  assert.equal(reason({ ...cache, names: ['app.db'] }), undefined);
  assert.equal(reason({ ...cache, names: ['keys/private.pem'] }), undefined);
  const data = { source: 'd', destination: '/data' };
  assert.equal(reason({ ...data, names: ['CACHEDIR.TAG', 'x'] }), 'a cache, by its CACHEDIR.TAG');
  assert.equal(reason({ ...data, names: ['hub/models--a--b'] }), 'models that are downloaded again');
});

test('what belongs to the machine is none of the stack', () => {
  const bound = (source: string, more: Partial<Sketch> = {}): string | undefined =>
    reason({ source, destination: '/x', ...more });
  assert.equal(bound('/etc/localtime'), 'the time zone of this machine');
  assert.equal(bound('/var/run/docker.sock', { kind: 'socket' }), 'a socket');
  assert.equal(bound('/srv/p/app.sock', { kind: 'socket' }), 'a socket');
  for (const path of ['/dev/dri', '/proc', '/sys/fs/cgroup', '/lib/modules', '/var/lib/docker/containers'])
    assert.equal(bound(path), 'belongs to this machine', path);
  assert.equal(bound('/', { readOnly: true }), 'belongs to this machine');
  assert.equal(bound('/usr/share/ca', { readOnly: true }), 'belongs to this machine');
  assert.equal(bound('/usr/local/appdata'), undefined);
});

test('of what no service writes, small directories are configuration; sources and large ones are left out', () => {
  const readOnly = { source: '/srv/p/conf.d', destination: '/etc/nginx/conf.d', readOnly: true };
  assert.equal(reason(readOnly), undefined);
  assert.equal(reason({ ...readOnly, names: ['package.json'] }), 'sources, which no service writes');
  assert.equal(reason({ ...readOnly, sizeBytes: 1 << 30 }), 'large, and no service writes it');
  assert.equal(reason({ ...readOnly, sizeBytes: undefined }), 'large, and no service writes it');
  assert.equal(reason({ ...readOnly, readOnly: false, sizeBytes: 1 << 30 }), undefined);
});
