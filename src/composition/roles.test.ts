import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kinds } from '../components/registry.ts';
import {
  reasonNoStore,
  recognise,
  storeTraits,
  type RecognisedService,
} from '../runtimes/docker/discovery/recognise.ts';

const stores = storeTraits(kinds);

const service = (image: string, given: Partial<RecognisedService> = {}): RecognisedService => ({
  ...{ image, labels: {}, exposedPorts: [], environment: {}, argv: [], mounts: [] },
  ...given,
});

const volume = (destination: string, source = 'data') => ({ type: 'volume', source, destination }) as const;
const anonymous = 'a'.repeat(64);
const script = { type: 'bind', source: '/p/run.sh', destination: '/run.sh' } as const;

function roleOf(given: RecognisedService): string | undefined {
  const told = recognise(given, stores);
  return told === undefined || typeof told.store === 'string'
    ? told?.store
    : `${told.store.kind} by ${told.by}`;
}

test('a service is a store by its label, its server or its data, and not by its image or port alone', () => {
  const cases: readonly (readonly [RecognisedService, string | undefined])[] = [
    [service('postgres:15'), 'postgres by image'],
    [service('postgres:15', { labels: { 'com.tars.service': 'none' } }), 'none'],
    [
      service('ghcr.io/o/pgvector:pg16@sha256:1', { argv: ['docker-entrypoint.sh', 'postgres'] }),
      'postgres by image',
    ],
    [service('postgres:15', { argv: ['docker-entrypoint.sh', 'pg_dump', '-h', 'db'] }), 'none'],
    // What no one has read may be the server: only a job that is done, or a script of the project, has to show more.
    [service('bitnami/redis', { argv: ['/opt/entrypoint.sh', '/opt/run.sh'] }), 'redis by image'],
    [service('bitnami/redis', { argv: ['/opt/run.sh'], hasFinished: true }), 'unknown'],
    [service('redis:7', { argv: ['/run.sh'], mounts: [script, volume('/data', anonymous)] }), 'unknown'],
    [service('redis:7', { argv: ['/run.sh'], mounts: [script, volume('/data')] }), 'redis by image'],
    [service('redis:7', { argv: ['redis-server', '/s.conf', '--sentinel'] }), 'none'],
    [service('redis:7', { argv: ['redis-sentinel', '/s.conf'] }), 'none'],
    [
      service('ollama/ollama', { argv: ['sh', '-c', 'ollama serve & ollama pull x; wait'] }),
      'ollama by image',
    ],
    [service('ollama/ollama', { argv: ['pull', 'x'] }), 'none'],
    [service('chromadb/chroma', { argv: ['dumb-init', '--', 'chroma', 'vacuum'] }), 'none'],
    [service('own/cache', { exposedPorts: [6379], argv: ['keydb-server'] }), 'redis by port'],
    [
      service('own/db', { exposedPorts: [5432], mounts: [volume('/var/lib/postgresql')] }),
      'postgres by port',
    ],
    // Poolers, proxies, and images that were made from a store's.
    [
      service('edoburu/pgbouncer', { exposedPorts: [5432], argv: ['/entrypoint.sh', 'pgbouncer', '/p.ini'] }),
      'unknown',
    ],
    [
      service('own/backup', {
        exposedPorts: [5432],
        mounts: [volume('/var/lib/postgresql/data', anonymous)],
      }),
      'unknown',
    ],
    // Exporters and admin pages.
    ...['oliver006/redis_exporter', 'dpage/pgadmin4', 'adminer', 'rediscommander/redis-commander'].map(
      (image) =>
        [service(image, { exposedPorts: [80, 9121], mounts: [volume('/data')] }), undefined] as const,
    ),
  ];
  for (const [given, role] of cases)
    assert.equal(roleOf(given), role, `${given.image} ${given.argv.join(' ')}`);
});

test('what answers like a server and keeps nothing is a pooler, where poolers answer alike', () => {
  const of = (kind: string, given: RecognisedService): string | undefined => {
    const store = stores.find((each) => each.kind === kind);
    assert.ok(store);
    return reasonNoStore(given, store);
  };
  assert.match(of('postgres', service('own/pool')) ?? '', /keeps nothing in \/var\/lib\/postgresql\/data/);
  assert.equal(
    of('postgres', service('own/db', { mounts: [volume('/var/lib/postgresql/data', anonymous)] })),
    undefined,
  );
  assert.equal(of('redis', service('own/cache', { argv: ['redis-server'] })), undefined);
  assert.equal(of('ollama', service('own/models')), undefined);
});
