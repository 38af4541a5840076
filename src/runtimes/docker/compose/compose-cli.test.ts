import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'yaml';
import { composeModel } from './compose-model.ts';

// As `docker-compose config` 1.29.2 and 2.26.1 print the same project.
const short = `
services:
  a:
    image: redis:7
    container_name: fixed
    ports: ['127.0.0.1:18123:80/tcp', '18124', {target: 18125}]
    volumes: ['data:/data:rw', '/srv/x:/x:ro', 'ext:/ext:rw']
  b:
    build: {context: /srv}
    profiles: [tools]
volumes:
  data: {}
  ext: {external: true, name: of-others}
`;
const long = `
services:
  a:
    image: redis:7
    container_name: fixed
    networks: {default: null}
    ports:
      - {mode: ingress, host_ip: 127.0.0.1, target: 80, published: '18123', protocol: tcp}
      - {mode: ingress, target: 18124, protocol: tcp}
    volumes:
      - {type: volume, source: data, target: /data, volume: {}}
      - {type: bind, source: /srv/x, target: /x, read_only: true}
      - {type: volume, source: ext, target: /ext, volume: {}}
  b:
    build: {context: /srv}
    profiles: [tools]
    image: p_b
networks:
  default: {name: p_default}
volumes:
  data: {name: p_data}
  ext: {name: of-others, external: true}
`;

test('both forms of a project mean the same', () => {
  assert.deepEqual(composeModel(parse(short), 'p', 1), composeModel(parse(long), 'p', 2));
});

test('names, mounts and ports are those of the Engine', () => {
  const { services, volumes, networks } = composeModel(parse(short), 'p', 1);
  const a = services.get('a');
  assert.deepEqual(a?.publishedPorts, [18123]);
  assert.deepEqual(
    a.mounts.map(({ type, source, readOnly }) => [type, source, readOnly]),
    [
      ['volume', 'data', false],
      ['bind', '/srv/x', true],
      ['volume', 'ext', false],
    ],
  );
  assert.equal(services.get('b')?.image, 'p_b');
  assert.equal(services.get('b')?.optional, true);
  assert.deepEqual(
    [...volumes.values()],
    [
      { name: 'p_data', external: false },
      { name: 'of-others', external: true },
    ],
  );
  assert.equal(networks.get('default')?.name, 'p_default');
});
