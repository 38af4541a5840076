import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hideSecrets, secretsOfEnvironment } from './hide-secrets.ts';

const hidden: readonly (readonly [secret: string, text: string, shown: string])[] = [
  ['kY7#w2', 'bad line: kY7#w2', 'bad line: ***'],
  ['correct-Horse-77', 'see correct-Horse-77.', 'see ***.'],
  // A secret that is called like the product.
  [
    'tars',
    'cannot open /srv/tars/data as tars: password=tars',
    'cannot open /srv/tars/data as tars: password=***',
  ],
  ['tars', 'postgres://tars:tars@db/tars failed', 'postgres://tars:***@db/tars failed'],
  ['tars-home', 'project tars-home, PGPASSWORD="tars-home"', 'project tars-home, PGPASSWORD="***"'],
  [
    'nextcloud',
    'database "nextcloud" of user "nextcloud" is missing',
    'database "nextcloud" of user "nextcloud" is missing',
  ],
  ['postgres15', 'host postgres15 refuses password postgres15', 'host postgres15 refuses password ***'],
  ['5432', 'port 5432 is taken', 'port 5432 is taken'],
  ['Bearer', 'expected Bearer authentication', 'expected Bearer authentication'],
  ['', 'nothing', 'nothing'],
];

test('secrets are hidden where they stand, and ordinary words are left', () => {
  for (const [secret, text, shown] of hidden) assert.equal(hideSecrets(text, [secret]), shown);
});

test('of an environment the values of secret names and the passwords of addresses are secrets', () => {
  const lines = [
    'TZ=Europe/Berlin',
    'export DB_PASSWORD="kY7 w2"',
    'DB=postgres://app:in-the-url@db/app',
    '# a remark',
    'no setting but kY7#w2',
  ];
  assert.deepEqual(secretsOfEnvironment(lines), [
    '"kY7 w2"',
    'kY7 w2',
    'in-the-url',
    'no setting but kY7#w2',
  ]);
});
