import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { placeholder, redactFile, redactFiles } from './index.ts';
import { suspicionOf } from '../../../model/secret-names.ts';

/** Of each text; all together are 5 MB. Work that grows with the square would keep one of them busy for minutes. */
const adversarialBytes = 100_000;

/** A planted secret: the file it stands in and the text that must not survive. */
interface Planted {
  readonly name: string;
  readonly text: string;
  readonly secret: string | readonly string[];
}

const pemBody = 'MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ';
const pem = `-----BEGIN PRIVATE KEY-----\n${pemBody}\nq83vEjRWeJA=\n-----END PRIVATE KEY-----`;
/** Spelled in two halves, so that scanners of this source do not take them for real. */
const joined = (...parts: readonly string[]): string => parts.join('');

const planted: readonly Planted[] = [
  // .env
  { name: '.env', text: 'POSTGRES_PASSWORD=horse-battery', secret: 'horse-battery' },
  { name: '.env', text: 'export REDIS_PASSWORD=sosecret1', secret: 'sosecret1' },
  { name: '.env', text: '   DB_PASS = spaced out value  \n', secret: 'spaced out value' },
  { name: '.env', text: 'db_password=lowercase99', secret: 'lowercase99' },
  { name: '.env', text: 'A=1\nLAST_SECRET=nonewline', secret: 'nonewline' },
  { name: '.env', text: `API_KEY='single quoted'`, secret: 'single quoted' },
  { name: '.env', text: 'JWT_SECRET="dou\\"ble" # note', secret: 'dou' },
  { name: '.env', text: 'PASSWORD=abc#def', secret: ['abc', 'def'] },
  { name: '.env', text: 'PASSWORD=abc123 #def456\n', secret: ['abc123', 'def456'] },
  { name: '.env', text: '# POSTGRES_PASSWORD=old-commented', secret: 'old-commented' },
  { name: '.env', text: `TLS_KEY="${pem}"\nPORT=1`, secret: [pemBody, 'q83vEjRWeJA='] },
  { name: '.env', text: `TLS_KEY=${pem}\nPORT=1`, secret: [pemBody, 'q83vEjRWeJA='] },
  { name: '.env', text: `ANYTHING="${pem.replaceAll('\n', '\\n')}"`, secret: pemBody },
  { name: '.env', text: 'PASSWORD=crlfvalue\r\nPORT=1\r\n', secret: 'crlfvalue' },
  { name: '.env', text: 'PIN=4711\nPASSWORD=12345678', secret: '12345678' },
  { name: '.env', text: 'SECRET_KEY=/9j4AAQSkZJRg+abc', secret: '9j4AAQSkZJRg' },
  { name: '.env', text: 'DATABASE_URL=postgresql://tars:inurl-pw@db:5432/tars_home', secret: 'inurl-pw' },
  { name: '.env', text: 'DATABASE_URL=postgresql://tars:p@ss@db:5432/x', secret: 'p@ss' },
  { name: '.env', text: 'DATABASE_URL=postgresql://tars:p%40ss%2Fword@db/x', secret: 'p%40ss%2Fword' },
  { name: '.env', text: 'DATABASE_URL=postgresql://tars:sla/sh-pw@db/x', secret: ['sla/', 'sh-pw'] },
  { name: '.env', text: 'REDIS_URL=redis://:onlypass@redis:6379/0', secret: 'onlypass' },
  { name: '.env', text: 'PGPASSWORD=squashed-word', secret: 'squashed-word' },
  { name: 'tars-home.env', text: 'N8N_ENCRYPTION_KEY=correct-horse', secret: 'correct-horse' },
  { name: '.env.production', text: 'SESSION_COOKIE=tasty-one-1', secret: 'tasty-one-1' },
  { name: '.env', text: 'PASSWORD_SALT=sea-and-table', secret: 'sea-and-table' },
  { name: '.env', text: 'X=${DB_PASSWORD:-fallbackpw}', secret: 'fallbackpw' },
  { name: '.env', text: 'CREDS=user-and-more', secret: 'user-and-more' },
  { name: '.env', text: 'WEBHOOK_URL=https://example.org/hook/abcdefg', secret: 'abcdefg' },
  {
    name: '.env',
    text: 'NOTIFY=https://hooks.slack.com/services/T000/B000/zzzYYY',
    secret: 'zzzYYY',
  },
  { name: '.env', text: 'SENTRY_DSN=https://0123456789abcdef@o1.example.org/1', secret: '0123456789abcdef' },
  { name: '.env', text: 'GRAFANA=Zx81Kq92LmN07pQrStUv4w', secret: 'Zx81Kq92LmN07pQrStUv4w' },
  {
    name: '.env',
    text: 'SOMETHING=9f86d081884c7d659a2feaa0c55ad015',
    secret: '9f86d081884c7d659a2feaa0c55ad015',
  },
  { name: '.env', text: 'DB_PASSWORD_2=second-one', secret: 'second-one' },
  { name: '.env', text: 'JAVA_OPTS=-Ddb.password=viajava1 -Xmx1g', secret: 'viajava1' },
  // Tokens by shape, under innocent names
  { name: 'a.txt', text: joined('use sk-', 'abcDEF1234567890xyz'), secret: 'abcDEF1234567890xyz' },
  {
    name: 'a.txt',
    text: joined('use ghp', '_abcdefghijklmnopqrstuvwxyz0123456789'),
    secret: 'abcdefghijklmno',
  },
  { name: 'a.txt', text: joined('xoxb', '-123456789012-abcdefGHIJ'), secret: 'abcdefGHIJ' },
  { name: 'a.txt', text: joined('id AK', 'IAIOSFODNN7EXAMPLE'), secret: 'IOSFODNN7EXAMPLE' },
  { name: 'a.txt', text: joined('hf', '_abcdefghijABCDEFGHIJ123456'), secret: 'abcdefghijABCDEFGHIJ' },
  { name: 'a.txt', text: joined('glpat', '-abcdefghij0123456789'), secret: 'abcdefghij0123456789' },
  {
    name: 'a.txt',
    text: joined('eyJhbGciOiJIUzI1', 'NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl'),
    secret: 'c2lnbmF0',
  },
  { name: 'a.txt', text: joined('AGE-SECRET', '-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQ'), secret: 'QQQQQQQQ' },
  { name: 'a.txt', text: 'Authorization: Bearer abcdef.0123456789', secret: 'abcdef.0123456789' },
  { name: 'htpasswd', text: 'tars:$apr1$zYxWvU$abcdefghijklmnopqrstu1', secret: 'abcdefghijklmnop' },
  { name: 'pgbouncer.txt', text: '"tars" "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$abc:def"', secret: 'c2FsdHNhbHQ' },
  // Commands
  { name: 'run.sh', text: 'redis-server --requirepass cmdpass1 --appendonly yes', secret: 'cmdpass1' },
  { name: 'run.sh', text: 'redis-cli -h x -a shortflag ping', secret: 'shortflag' },
  { name: 'run.sh', text: `foo --api-key='quoted flag' --port 80`, secret: 'quoted flag' },
  { name: 'run.sh', text: 'PGPASSWORD=inline99 psql -h db', secret: 'inline99' },
  { name: 'run.sh', text: 'curl -u admin:curlpass1 http://x/', secret: 'curlpass1' },
  { name: 'run.sh', text: 'sshpass -p sshpw123 ssh x', secret: 'sshpw123' },
  { name: 'run.sh', text: 'mysql -u root -pmysqlpw1 db', secret: 'mysqlpw1' },
  // Other line formats
  {
    name: 'redis.conf',
    text: 'requirepass confpass1\nmasterauth confpass2',
    secret: ['confpass1', 'confpass2'],
  },
  { name: 'users.acl', text: 'user app on >aclpass1 ~* +@all', secret: 'aclpass1' },
  { name: '.pgpass', text: 'db:5432:tars_home:tars:pg\\:pass1', secret: ['pass1', 'pg\\'] },
  { name: '.netrc', text: 'machine x.org login me password netrcpw1', secret: 'netrcpw1' },
  { name: 'app.ini', text: '[db]\npassword = inipass1\n', secret: 'inipass1' },
  { name: 'app.toml', text: 'api_key = "tomlpass1"\n', secret: 'tomlpass1' },
  { name: 'app.properties', text: 'spring.datasource.password=proppass1', secret: 'proppass1' },
  { name: 'app.xml', text: '<db><password>xmlpass1</password></db>', secret: 'xmlpass1' },
  { name: 'settings.py', text: `SECRET_KEY = 'pypass-1!'`, secret: 'pypass-1!' },
  { name: 'nginx.conf', text: 'proxy_set_header X-Api-Key headerpw1;', secret: 'headerpw1' },
  { name: 'run.sh', text: `curl -H 'X-Api-Key: headerpw2' http://x`, secret: 'headerpw2' },
  { name: 'settings.py', text: `D = {"USER": "a", "PASSWORD": "dictpw12", "H": 1}`, secret: 'dictpw12' },
  { name: '.env', text: 'R=redis://:firstpw@a/0,redis://:secondpw@b/0', secret: ['firstpw', 'secondpw'] },
  { name: 'secrets/db', text: 'wholefile1\n', secret: 'wholefile1' },
  { name: 'db_password.txt', text: 'wholefile2\n', secret: 'wholefile2' },
  { name: 'server.key', text: pem, secret: pemBody },
  { name: 'app.conf', text: `cut off\n-----BEGIN RSA PRIVATE KEY-----\n${pemBody}\n`, secret: pemBody },
  // YAML
  { name: 'c.yml', text: 'environment:\n  POSTGRES_PASSWORD: yamlpass1\n', secret: 'yamlpass1' },
  { name: 'c.yml', text: 'environment:\n  - POSTGRES_PASSWORD=list pass\n', secret: 'list pass' },
  { name: 'c.yml', text: 'command: ["redis-server", "--requirepass", "seqpass1"]\n', secret: 'seqpass1' },
  { name: 'c.yml', text: 'command: redis-server --requirepass strpass1\n', secret: 'strpass1' },
  {
    name: 'c.yml',
    text: `tls:\n  private: |\n    ${pem.replaceAll('\n', '\n    ')}\n  port: 1\n`,
    secret: pemBody,
  },
  { name: 'c.yml', text: 'password: >-\n  folded\n  words\nport: 1\n', secret: ['folded', 'words'] },
  { name: 'c.yml', text: 'script: |\n  export API_TOKEN=blockpass1\n  run\n', secret: 'blockpass1' },
  { name: 'c.yml', text: 'a: 1 # password: commentpw1\n', secret: 'commentpw1' },
  {
    name: 'c.yml',
    text: 'passwords:\n  alice: alicepw1\n  bob: bobpw123\n',
    secret: ['alicepw1', 'bobpw123'],
  },
  { name: 'c.yml', text: 'api_keys: [listkey1, listkey2]\n', secret: ['listkey1', 'listkey2'] },
  { name: 'c.yml', text: 'env:\n- name: DB_PASSWORD\n  value: k8spass1\n', secret: 'k8spass1' },
  { name: 'c.yml', text: 'x: &pw anchored1\npassword: anchored1\n', secret: 'anchored1' },
  { name: 'c.yml', text: 'clientSecret: camelcase1\n', secret: 'camelcase1' },
  { name: 'c.yml', text: 'a: 1\n---\ntoken: seconddoc1\n', secret: 'seconddoc1' },
  { name: 'c.yml', text: 'broken: [\npassword: brokenpw1\n', secret: 'brokenpw1' },
  // JSON
  { name: 'c.json', text: '{"db":{"password":"jsonpass1"}}', secret: 'jsonpass1' },
  { name: 'c.json', text: '{\n\t"apiKey": "tabbed\\"key"\n}\n', secret: ['tabbed', 'key"\n'] },
  { name: 'c.json', text: '{"pin": 47114711, "password": 12345678}', secret: '12345678' },
  { name: 'c.json', text: '{"url":"amqp://u:jsonurl1@mq/"}', secret: 'jsonurl1' },
  { name: 'c.jsonc', text: '{\n // dev\n "secret": "jsonc-pass",\n}\n', secret: 'jsonc-pass' },
];

test(`none of ${planted.length} planted secrets survives`, () => {
  const leaks = planted.flatMap(({ name, text, secret }) => {
    const [shown = ''] = redactFiles([{ name, text }], []);
    const leaked = [secret].flat().filter((part) => shown.includes(part));
    return leaked.length === 0 ? [] : [`${name}: ${JSON.stringify(text)} -> ${JSON.stringify(shown)}`];
  });
  assert.deepEqual(leaks, []);
  assert.ok(planted.length >= 60);
});

const ordinaryEnv = `# Ports and places
PORT=8000
COMPOSE_PROJECT_NAME=tars-home
POSTGRES_USER=tars
POSTGRES_DB=tars_home
POSTGRES_HOST=postgres
POSTGRES_PORT=5432
REDIS_URL=redis://redis:6379/0
DATABASE_URL=postgresql://tars@postgres:5432/tars_home
OLLAMA_BASE_URL=http://ollama:11434
CHROMA_URL=http://chromadb:8000/api/v2
KEYCLOAK_URL=https://keycloak.example.org/realms/tars
MAX_TOKENS=4096
NUM_TOKENS=512
TOKEN_LIMIT=100000
TOKENS_PER_MINUTE=90000
TOKENIZER=cl100k_base
TOKENIZERS_PARALLELISM=false
TOKEN_EXPIRY=3600
ACCESS_TOKEN_EXPIRE_MINUTES=30
AUTH_ENABLED=true
AUTH_MODE=oidc
AUTH_URL=https://auth.example.org/login
PASSWORD_MIN_LENGTH=12
POSTGRES_PASSWORD_FILE=/run/secrets/postgres_password
SSL_KEY_PATH=/etc/ssl/private/server.key
SSL_KEY=/etc/ssl/private/server.key
KEY_PREFIX=tars:
CACHE_KEY=answers
PRIMARY_KEY=id
SORT_KEY=created_at
SECRET_NAME=tars-db
JWT_ALGORITHM=HS256
COOKIE_DOMAIN=example.org
COOKIE_SECURE=true
MONKEY=business
COMPASS_DIRECTION=north
KEYWORDS=cooking,space
LOG_LEVEL=info
MODEL=llama3.1:8b-instruct-q4_K_M
EMBEDDING_MODEL=nomic-embed-text:latest
IMAGE=postgres@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
GIT_COMMIT=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b
INSTANCE=123e4567-e89b-12d3-a456-426614174000
DATA_DIR=/var/lib/tars/data/2024-11-24T00Z
PYTHONPATH=/app/src:/app/lib
WEBHOOK_PORT=9000
PASSWORD=\${POSTGRES_PASSWORD}
DSN=postgresql://\${POSTGRES_USER}:\${POSTGRES_PASSWORD}@db/x
GREETING="Humour 75%, honesty 90%" # adjustable
TZ=Europe/Berlin
`;

test('ordinary settings stay as they are', () => {
  assert.ok(ordinaryEnv.split('\n').length > 45);
  const expected = ordinaryEnv.split('\n');
  const shown = redactFile('.env', ordinaryEnv, []).text.split('\n');
  const changed = expected.flatMap((line, i) =>
    shown[i] === line ? [] : [`${line} -> ${String(shown[i])}`],
  );
  assert.deepEqual(changed, []);
});

const compose = `# The stack of T.A.R.S.
name: tars-home
services:
  postgres:            # the analytics store
    image: postgres:15-alpine
    environment: &env
      POSTGRES_USER: tars
      POSTGRES_DB: tars_home
      POSTGRES_PASSWORD: \${POSTGRES_PASSWORD:-Tr0ub4dor&3x}
    healthcheck: {test: ["CMD-SHELL", "pg_isready -U tars -d tars_home"], interval: 10s}
    secrets: [db_password]
  redis:
    image: redis:7
    command: redis-server --appendonly yes --requirepass "hunter2hunter2"
    ports: ['6379:6379']
  backend:
    environment:
      <<: *env
      DATABASE_URL: postgresql://tars:Tr0ub4dor&3x@postgres:5432/tars_home
      MAX_TOKENS: 4096
      KEYCLOAK_URL: https://keycloak.example.org
      NOTE: 'the old one was hunter2hunter2'
      APP_SECRET: 'it''s: a #secret'
    depends_on:
      postgres: {condition: service_healthy}
volumes:
  postgres_data: {}
secrets:
  db_password:
    file: ./secrets/db_password.txt
`;

/** The parsed structure with every string or number that was changed into the placeholder marked. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shape);
  if (value === null || typeof value !== 'object') return typeof value === 'boolean' ? value : 'scalar';
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shape(inner)]));
}

test('a redacted Compose file parses to the same structure and keeps comments and ordinary values', () => {
  const { text, secrets } = redactFile('docker-compose.yml', compose, []);
  assert.deepEqual(shape(parse(text, { merge: true })), shape(parse(compose, { merge: true })));
  for (const secret of ['Tr0ub4dor&3x', 'hunter2hunter2', "it's: a #secret"])
    assert.ok(secrets.includes(secret), secret);
  const changed = compose.split('\n').filter((line, i) => text.split('\n')[i] !== line);
  assert.equal(text.split('\n').length, compose.split('\n').length);
  assert.deepEqual(
    changed.map((line) => line.trim().split(':')[0]),
    ['POSTGRES_PASSWORD', 'command', 'DATABASE_URL', 'APP_SECRET'],
  );
  assert.match(text, /postgresql:\/\/tars:\[redacted\]@postgres:5432\/tars_home/);
  assert.match(text, /POSTGRES_PASSWORD: "?\$\{POSTGRES_PASSWORD:-\[redacted\]\}/);
});

test('a secret found in one file goes from all, in every spelling, unless it names something', () => {
  const files = [
    {
      name: '.env',
      text: 'POSTGRES_PASSWORD=p@ss/word "1"\nADMIN_PASSWORD=tars_home\nPOSTGRES_DB=tars_home\n',
    },
    { name: 'notes.txt', text: 'call it p@ss/word "1", or p%40ss%2Fword%20%221%22 in an address' },
    { name: 'c.json', text: '{"remark": "p@ss/word \\"1\\" it is", "database": "tars_home"}' },
    {
      name: 'c.yml',
      text: `a: cHBzcy93b3Jk\nb: ${Buffer.from('p@ss/word "1"').toString('base64')}\nc: tars_home\n`,
    },
  ];
  const [env = '', notes = '', json = '', yaml = ''] = redactFiles(files, []);
  assert.equal(
    env,
    `POSTGRES_PASSWORD=${placeholder}\nADMIN_PASSWORD=${placeholder}\nPOSTGRES_DB=tars_home\n`,
  );
  assert.equal(notes, `call it ${placeholder}, or ${placeholder} in an address`);
  assert.deepEqual(JSON.parse(json), { remark: `${placeholder} it is`, database: 'tars_home' });
  assert.deepEqual(parse(yaml), { a: 'cHBzcy93b3Jk', b: placeholder, c: 'tars_home' });
});

test('a known secret is replaced although nothing in the file gives it away', () => {
  const [shown] = redactFiles([{ name: 'a.txt', text: 'see open sesame' }], ['open sesame', 'see']);
  assert.equal(shown, `see ${placeholder}`);
});

test('JSON keeps its formatting, with tabs, escapes and numbers', () => {
  const text =
    '{\n\t"a" : [1, 2.50, {"token":"abcdefgh1"}],\n\t"e": "caf\\u00e9 \\/ \\ud83d\\ude00",\n\t"password":12345678}\n';
  const { text: shown } = redactFile('x.json', text, []);
  assert.equal(
    shown,
    text.replace('"abcdefgh1"', `"${placeholder}"`).replace('12345678', `"${placeholder}"`),
  );
});

test('several YAML documents, anchors and tags survive', () => {
  const text = '%YAML 1.2\n---\na: &x !tag {password: secret-one}\nb: *x\n---\n- token: !!str secret-two\n';
  const { text: shown } = redactFile('x.yaml', text, []);
  const documents = parseAllDocuments(shown);
  assert.ok(Array.isArray(documents) && documents.every((document) => document.errors.length === 0));
  assert.ok(!/secret-(?:one|two)/.test(shown));
  assert.match(shown, /b: \*x/);
});

test('.env keeps its lines, quotes and comments', () => {
  const text =
    '# head\n\nexport A_TOKEN="x1y2z3w4" # keep me\nB = plain # too\n  C_PASSWORD=\'q\'\nnonsense line\n';
  assert.equal(
    redactFile('.env', text, []).text,
    `# head\n\nexport A_TOKEN="${placeholder}" # keep me\nB = plain # too\n  C_PASSWORD='${placeholder}'\nnonsense line\n`,
  );
});

test('redacting twice changes nothing more', () => {
  for (const { name, text } of planted) {
    const once = redactFile(name, text, []).text;
    assert.equal(redactFile(name, once, []).text, once, name);
  }
});

test('names of settings are judged by their words', () => {
  for (const key of [
    'PASSWORD',
    'dbPassword',
    'DB_PASS',
    'pgpassword',
    'apiKey',
    'X_API_KEY_2',
    'clientSecret',
  ])
    assert.equal(suspicionOf(key), 'always', key);
  for (const key of [
    'MONKEY',
    'KEYBOARD',
    'TOKENIZER',
    'MAX_TOKENS',
    'PASSENGERS',
    'AUTHOR',
    'COOKIE_DOMAIN',
    'SALTY',
  ])
    assert.equal(suspicionOf(key), 'none', key);
});

test('known digits are not taken for a secret in the midst of a digest, and are after an escape', () => {
  const text = 'id: 9118392017455, sum: 83920174, url: /%2083920174';
  const [shown] = redactFiles([{ name: 'a.txt', text }], ['83920174']);
  assert.equal(shown, `id: 9118392017455, sum: ${placeholder}, url: /%20${placeholder}`);
});

test('a password that is a word like password is hidden where it stands, and nowhere else', () => {
  const files = [
    { name: '.env', text: 'DB_PASSWORD=password\n' },
    { name: 'c.yml', text: 'note: the password is in /run/secrets/db_password\n' },
  ];
  assert.deepEqual(redactFiles(files, []), [`DB_PASSWORD=${placeholder}\n`, files[1]?.text]);
});

test('a secret that is called like the product is hidden where it is set, and not in paths and names', () => {
  const files = [
    {
      name: 'docker-compose.yml',
      text: 'services:\n  nextcloud:\n    image: nextcloud:29\n    environment:\n      DB_USER: nextcloud\n      DB_PASSWORD: nextcloud\n    volumes: [/srv/nextcloud:/var/lib/nextcloud]\n',
    },
    { name: '.env', text: 'DB_URL=postgres://nextcloud:nextcloud@db/nextcloud\nDATA=/srv/nextcloud/data\n' },
    {
      name: 'n.md',
      text: 'The horse-battery stack; horse-battery is not to be told. See /srv/horse-battery.\n',
    },
    { name: 'b.env', text: 'PASSWORD=horse-battery\n' },
  ];
  assert.deepEqual(redactFiles(files, []), [
    files[0]?.text.replace('PASSWORD: nextcloud', `PASSWORD: "${placeholder}"`),
    `DB_URL=postgres://nextcloud:${placeholder}@db/nextcloud\nDATA=/srv/nextcloud/data\n`,
    `The ${placeholder} stack; ${placeholder} is not to be told. See /srv/horse-battery.\n`,
    `PASSWORD=${placeholder}\n`,
  ]);
});

/** Each unit is repeated up to megabytes: what makes a search start over at every place, or look far ahead in vain. */
const adversarial: readonly (readonly [name: string, unit: string])[] = [
  ['.env', 'A="x\n'],
  ['.env', 'A=-----BEGIN KEY-----\n'],
  ['.env', "A='x\\'\n"],
  ['a.conf', 'curl '],
  ['a.conf', "-u 'x "],
  ['a.conf', '..a'],
  ['a.conf', 'PASSWORD $$a$'],
  ['a.conf', "PASSWORD E'\\"],
  ['a.conf', '<a key="b" '],
  ['a.conf', 'x://${'],
  ['a.conf', 'a=${b:-'],
  ['a.conf', '-eyJhbGciOiJI'],
  ['a.conf', '-AGE-PLUGIN-1'],
  ['a.conf', '$('],
  ['a.conf', '["a", '],
  ['a.conf', '\\"a\\": \\"'],
  ['a.conf', "config['a']"],
  ['a.conf', 'user a on >'],
  ['a.conf', 'a b: '],
  ['a.conf', '-H a  '],
  ['a.conf', 'Authorization: '],
  ['a.conf', '/a'],
  ['a.sql', 'INSERT INTO a (b) VALUES ('],
  ['a.sql', 'COPY a (b) FROM stdin;\n'],
  ['a.py', 'jwt.sign(a, '],
  ['a.properties', 'password=a\\\n'],
  ['a.yml', '- [a, '],
  ['a.json', '[{"a":'],
  ['a.conf', '- name: DB_PASSWORD\n'],
  ['a.conf', 'variable "password" {\n'],
  ['a.conf', '<password>\n'],
  ['a.conf', '<password>\na\n'],
  ['a.conf', '<password><![CDATA['],
  ['a.conf', 'a=b||"'],
  ['a.conf', 'a:@tcp('],
  ['a.conf', 'https://a/push/'],
  ['a.conf', '{PLAIN}'],
  ['a.conf', "''a="],
  ['a.yml', 'password: {{ default "\n'],
  ['a.csv', 'a,password\n"'],
  ['a.csv', 'password,""'],
];

test('no text makes the rules start over again and again: megabytes of the worst lines are read to their end', () => {
  for (const [name, unit] of adversarial) {
    for (const filling of ['', ' '.repeat(1000)]) {
      const worst = `${unit}${filling}`.repeat(Math.ceil(adversarialBytes / (unit.length + filling.length)));
      const text = `${worst}\nPASSWORD=at-the-very-end-1\n`;
      const { text: shown } = redactFile(name, text, []);
      assert.ok(!shown.includes('at-the-very-end-1'), `${name}: ${unit}`);
    }
  }
});
