import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shellVariables } from './shell-variables.ts';

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

test('variables that only a shell had are told from those of files and from defaults that were taken', () => {
  const names = shellVariables({
    texts: [compose],
    defined: { LOG_DIR: '/var/log' },
    environments: new Map([
      [
        'db',
        {
          ...{ POSTGRES_PASSWORD: 'secret', POSTGRES_USER: 'tars', POSTGRES_DB: 'other' },
          ...{ PRICE: '$5 EUR', HANDED_ON: 'x' },
        },
      ],
      ['app', { TOKEN: 't', LOGS: '/opt/logs', PASSED_ON: 'y' }],
    ]),
  });
  assert.deepEqual(names, ['DB_NAME', 'DB_PASSWORD', 'HANDED_ON', 'PASSED_ON', 'TOKEN']);
});

test('where files define everything, or there are no containers to compare, no shell is needed', () => {
  const defined = { DB_PASSWORD: 's', TOKEN: 't', LOG_DIR: '/var/log' };
  assert.deepEqual(shellVariables({ texts: [compose], defined, environments: new Map() }), []);
  assert.deepEqual(shellVariables({ texts: ['a: [', ''], defined: {}, environments: new Map() }), []);
});
