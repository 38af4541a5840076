import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigurationError } from '../model/errors.ts';
import { parseSettings } from './load.ts';
import { settingsTemplate } from './template.ts';
import { noCare } from './template-sections.ts';

const values = { stack: 's', repositoryPath: '/r', passwordFile: '/k', ollamaPath: '/models', care: noCare };
const kinds = ['postgres', 'redis', 'chroma', 'ollama'] as const;

test('the template is valid whatever was found, and as each comment says when uncommented', () => {
  for (let found = 0; found < 2 ** kinds.length; found++) {
    const set = new Set(kinds.filter((_, bit) => (found >> bit) & 1));
    const settings = parseSettings(settingsTemplate({ ...values, found: set }), '/etc/tars.yaml', {
      POSTGRES_PASSWORD: 'x',
    });
    assert.deepEqual(new Set(Object.keys(settings.components)), set);
  }
  // An operator takes the leading mark away and keeps the indent.
  const uncommented = settingsTemplate({ ...values, found: new Set(kinds) }).replaceAll(
    /^( *)# ( *\w+:)/gm,
    '$1$2',
  );
  const settings = parseSettings(uncommented, '/etc/tars.yaml', {});
  assert.deepEqual(settings.services['backend']?.depends_on, ['postgres', 'redis']);
  assert.deepEqual(settings.components['config'], {
    kind: 'config',
    files: ['/etc/tars-home.env', '/etc/docker-compose.yml'],
  });
  const postgres = settings.components['postgres'];
  assert.ok(postgres?.kind === 'postgres');
  assert.deepEqual(postgres.databases, ['tars_home']);
});

test('paths are taken from the file’s directory, and variables from the environment', () => {
  const text = `version: 1
stack: s
repository: { path: repo, password_file: ../key }
components:
  main: { kind: postgres, password: '\${PW}', user: '$\${PW}' }
  config: { files: [a.env, /b.env] }
`;
  const settings = parseSettings(text, '/etc/tars/tars.yaml', { PW: 'secret' });
  assert.equal(settings.repository.path, '/etc/tars/repo');
  assert.equal(settings.repository.password_file, '/etc/key');
  const main = settings.components['main'];
  assert.ok(main?.kind === 'postgres');
  assert.equal(main.password, 'secret');
  assert.equal(main.user, '${PW}');
  assert.deepEqual(settings.components['config'], { kind: 'config', files: ['/etc/tars/a.env', '/b.env'] });
});

test('directories are components too, and may stand at the top', () => {
  const text = (lines: string): string => `version: 1\nstack: s\nrepository: { path: repo }\n${lines}\n`;
  const parse = (lines: string): unknown =>
    parseSettings(text(lines), '/etc/tars.yaml', {}).components['files'];
  const expected = { kind: 'files', paths: ['/srv/a', '/etc/b'], exclude: [] };
  assert.deepEqual(parse('files: [/srv/a, b]\ncomponents: {}'), expected);
  assert.deepEqual(parse('files: [/srv/a, b]'), expected);
  assert.deepEqual(parse('components: { files: { paths: [/srv/a, b] } }'), expected);
  const inside = 'components: { files: { service: web, inside: /srv/a } }';
  assert.deepEqual(parse(`docker: { project: p }\n${inside}`), {
    ...{ kind: 'files', service: 'web', inside: '/srv/a', exclude: [] },
  });
  assert.throws(() => parse(`${inside}\nservices: { web: {} }`), /inside: without a container/);
  assert.throws(() => parse('components: { files: { exclude: [a] } }'), /needs either paths or inside/);
});

test('what is wrong is named', () => {
  const base = 'version: 1\nstack: s\nrepository: { path: r }\n';
  const cases: [string, RegExp][] = [
    [`${base}components: { redis: { prot: 6379 } }`, /prot/],
    [`${base}components: { mysql: {} }`, /kind/],
    [`${base}components: { redis: { service: cache } }`, /cache/],
    [`${base}components: { redis: { password: '\${UNSET_NAME}' } }`, /UNSET_NAME/],
    ['version: 2', /version/],
  ];
  for (const [text, pattern] of cases) {
    assert.throws(
      () => parseSettings(text, '/etc/tars.yaml', {}),
      (error) => error instanceof ConfigurationError && pattern.test(error.message),
      text,
    );
  }
});

test('aliases: ordinary ones are followed, all others are refused with their line', () => {
  const head = 'version: 1\nstack: s\nrepository: { path: r }\n';
  const settings = parseSettings(
    `${head}services:\n  a: &a { depends_on: [] }\n  b: *a\n`,
    '/etc/tars.yaml',
    {},
  );
  assert.deepEqual(settings.services['b']?.depends_on, []);
  const lists = [
    'x, x, x, x, x, x, x, x',
    '*a, *a, *a, *a, *a, *a, *a, *a',
    '*b, *b, *b, *b, *b, *b, *b, *b',
  ];
  const bomb = ['a', 'b', 'c'].map((name, at) => `${name}: &${name} [${lists[at] ?? ''}]`).join('\n');
  const cases: [string, RegExp][] = [
    ['components: &a\n  x: { y: *a }\n', /line 5: the alias there .* means what it stands in itself/],
    ['components: &a\n  <<: *a\n', /line 5: the alias there/],
    ['components: *sesame\n', /line 4: the alias there .* is of no anchor before it/],
    [`${bomb}\nd: [*c, *c, *c]\n`, /too often/],
  ];
  for (const [text, expected] of cases) {
    assert.throws(
      () => parseSettings(head + text, '/etc/tars.yaml', {}),
      (error) =>
        error instanceof ConfigurationError &&
        expected.test(error.message) &&
        !error.message.includes('sesame'),
      text,
    );
  }
});
