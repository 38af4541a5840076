import type { Environment } from '../../../model/environment.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'yaml';
import { shellVariables } from './shell-variables.ts';
import type { SeenContainer } from '../discovery/sightings.ts';
import { envFileText, parseEnvFile } from './variables.ts';

const compose = `
services:
  db:
    image: postgres:\${PG_TAG:-15}
    environment:
      POSTGRES_PASSWORD: \${DB_PASSWORD}
      POSTGRES_USER: \${DB_USER:-tars}
      POSTGRES_DB: \${DB_NAME:-home}
      PRICE: $$5 \${CURRENCY:-\${FALLBACK:-EUR}}
      HANDED_ON:
  app:
    image: app
    environment: ['TOKEN=\${TOKEN:?must be set}', 'LOGS=\${PWD}/logs', PASSED_ON]
    volumes: ['\${LOG_DIR}:/logs', '\${OTHER_DIR-/srv}:/srv'] # \${COMMENT}
`;

const seen = (shown: Partial<SeenContainer>): SeenContainer => ({
  ...{ name: 'x', image: 'x', environment: {}, argv: [], labels: {}, mounts: [], publishedPorts: new Map() },
  ...shown,
});

const found = (text: string, variables: Environment, containers: Readonly<Record<string, SeenContainer>>) =>
  Object.fromEntries(
    shellVariables([{ value: parse(text), variables }], new Map(Object.entries(containers))).map(
      ({ name, value }) => [name, value],
    ),
  );

test('variables that only a shell had are told from those of files and from defaults that were taken', () => {
  const values = found(
    compose,
    { LOG_DIR: '/var/log' },
    {
      db: seen({
        image: 'postgres:15',
        environment: {
          ...{ POSTGRES_PASSWORD: 'secret', POSTGRES_USER: 'tars', POSTGRES_DB: 'other' },
          ...{ PRICE: '$5 EUR', HANDED_ON: 'x' },
        },
      }),
      app: seen({ image: 'app', environment: { TOKEN: 't', LOGS: '/opt/logs', PASSED_ON: 'y' } }),
    },
  );
  assert.deepEqual(values, {
    ...{ DB_NAME: 'other', DB_PASSWORD: 'secret', HANDED_ON: 'x', PASSED_ON: 'y', TOKEN: 't' },
  });
});

test('where files define everything, or there are no containers to compare, no shell is needed', () => {
  const defined = { DB_PASSWORD: 's', TOKEN: 't', LOG_DIR: '/var/log' };
  assert.deepEqual(found(compose, defined, {}), {});
  assert.deepEqual(shellVariables([{ value: undefined, variables: {} }], new Map()), []);
});

test('values come from images, ports, directories, labels, commands and names; others are named without', () => {
  const text = `
services:
  cache:
    image: \${REGISTRY}/redis:\${TAG}
    container_name: \${PREFIX}-cache
    command: redis-server --requirepass \${REDIS_PASSWORD} --port 6379
    labels: { owner: 'team \${TEAM}' }
    ports: ['\${PORT}:6379', '\${BIND}:\${ADMIN_PORT}:9000/tcp', { target: 80, published: '\${WEB}' }]
    volumes: ['\${DATA}:/data', './\${SUB}:/conf', 'named_\${N}:/named']
    environment: { BOTH: '\${TAG}-\${SUFFIX}', TWICE: '\${A}:\${A}', NONE: '\${X}\${Y}' }
networks: { default: { name: '\${NETWORK}' } }
`;
  const cache = seen({
    ...{ name: 'lab-cache', image: 'reg.example:5000/redis:7.2', labels: { owner: 'team red' } },
    argv: ['docker-entrypoint.sh', 'redis-server', '--requirepass', "it's $ecret", '--port', '6379'],
    environment: { BOTH: '7.2-slim', TWICE: 'q:q', NONE: 'ab' },
    publishedPorts: new Map([
      [6379, { host: '127.0.0.1', port: 16379 }],
      [9000, { host: '10.0.0.1', port: 19000 }],
      [80, { host: '127.0.0.1', port: 8080 }],
    ]),
    mounts: [
      { type: 'bind', source: '/srv/data', destination: '/data', readOnly: false },
      { type: 'bind', source: '/opt/lab/conf', destination: '/conf', readOnly: false },
    ],
  });
  const values = found(text, { REGISTRY: 'reg.example:5000' }, { cache });
  assert.deepEqual(values, {
    ...{ TAG: '7.2', PREFIX: 'lab', REDIS_PASSWORD: "it's $ecret", TEAM: 'red', PORT: '16379' },
    ...{ BIND: '10.0.0.1', ADMIN_PORT: '19000', WEB: '8080', DATA: '/srv/data', SUFFIX: 'slim', A: 'q' },
    ...{ SUB: undefined, N: undefined, NETWORK: undefined, X: undefined, Y: undefined },
  });
});

test('an environment file that is written reads back as it was', () => {
  const values = {
    ...{ PLAIN: 'a/b:c@1.2', EMPTY: '', SPACE: ' a b ', HASH: 'a #b', DOLLAR: '$x${y}', QUOTE: `it's "so"` },
    ...{ LINES: `-----BEGIN\nit's\\n $z\r\n-----END\n`, BACK: 'a\\b', BOTH: `'\\$HOME"` },
  };
  assert.deepEqual(parseEnvFile(envFileText(values)), values);
});

test('a variable that is empty in the containers is one that no shell had, unless a default would differ', () => {
  const text =
    'services: {app: {environment: {A: "${A}", B: "${B}", C: "x${C-y}", D: "${D}${E}"}, labels: {b: "${B-z}"}}}';
  const app = seen({ environment: { A: '', B: '', C: 'x', D: '' }, labels: { b: '' } });
  assert.deepEqual(found(text, {}, { app }), { B: '', C: '' });
});
