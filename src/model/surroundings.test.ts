import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ComposeRecord } from './manifest.ts';
import { networkLine, surroundingLines } from './surroundings.ts';

const network = {
  ...{ name: 'edge', services: ['web'], driver: 'macvlan', scope: 'local' },
  ...{ internal: true, attachable: true, ipv6: true, hasFixedAddress: true },
  ...{ options: { parent: 'eth 0' }, labels: { site: 'here' } },
  ranges: [{ subnet: '10.0.0.0/24', gateway: '10.0.0.1', ipRange: '10.0.0.128/25' }, { subnet: 'fd00::/64' }],
};
const volume = { service: 'web', driver: 'local', hasOptions: false, labels: {} };
const owned = { services: ['web'], uid: 1000, gid: 100, mode: 0o750 };

test('the lines that create what lies around a project', () => {
  const record: ComposeRecord = {
    ...{ project: 'p', composeFiles: [], envFiles: [], services: [], networks: [network] },
    volumes: [
      { ...volume, name: 'vault' },
      { ...volume, name: 'vault', service: 'worker' },
      { ...volume, name: 'nas', driver: 'nfs', hasOptions: true },
      { ...volume, name: 'p_own', labels: { 'com.docker.compose.project': 'p' } },
      { ...volume, name: 'f'.repeat(64) },
    ],
    binds: [
      { ...owned, path: '/srv/my app', kind: 'directory' },
      { ...owned, path: '/srv/Caddyfile', kind: 'file' },
      { ...owned, path: '/etc/ssl/certs', kind: 'directory' },
      { ...owned, path: '/', kind: 'directory' },
    ],
  };
  assert.deepEqual(surroundingLines(record), [
    "docker network create --driver macvlan --subnet 10.0.0.0/24 --gateway 10.0.0.1 --ip-range 10.0.0.128/25 --subnet fd00::/64 --internal --attachable --ipv6 --opt 'parent=eth 0' --label site=here edge",
    'docker volume create vault',
    'docker volume create --driver nfs --opt KEY=VALUE nas',
    "install -d -o 1000 -g 100 -m 750 '/srv/my app'",
  ]);
  // Of an older snapshot nothing is known.
  assert.equal(networkLine('edge 2', undefined), "docker network create 'edge 2'");
});
