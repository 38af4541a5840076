import assert from 'node:assert/strict';
import { userInfo } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { ConfigurationError } from '../model/errors.ts';
import type { KindProposal } from '../ports/kind.ts';
import { noCare } from '../settings/template-sections.ts';
import { settingsTemplate } from '../settings/template.ts';
import { proposeStores } from './kinds.ts';
import { parseSettings } from './settings.ts';

const values = { stack: 's', repositoryPath: '/r', passwordFile: '/k', care: noCare };
const proposals = await proposeStores({}, () => Promise.resolve(true));
const kinds = proposals.map(({ kind }) => kind);
const proposing = (found: ReadonlySet<string>): readonly KindProposal[] =>
  proposals.map((proposal) => ({ ...proposal, isFound: found.has(proposal.kind) }));

test('the template is valid whatever was found, and as each comment says when uncommented', () => {
  for (let found = 0; found < 2 ** kinds.length; found++) {
    const set = new Set(kinds.filter((_, bit) => (found >> bit) & 1));
    const settings = parseSettings(
      settingsTemplate({ ...values, proposals: proposing(set) }),
      '/etc/tars.yaml',
      {
        POSTGRES_PASSWORD: 'x',
      },
    );
    assert.deepEqual(new Set(Object.keys(settings.components)), set);
  }
  // An operator takes the leading mark away and keeps the indent.
  const uncommented = settingsTemplate({ ...values, proposals: proposing(new Set(kinds)) }).replaceAll(
    /^( *)# ( *\w+:)/gm,
    '$1$2',
  );
  const settings = parseSettings(uncommented, '/etc/tars.yaml', {});
  assert.deepEqual(settings.services['backend']?.depends_on, ['postgres', 'redis']);
  assert.deepEqual(settings.components['config']?.settings, {
    kind: 'config',
    files: ['/etc/tars-home.env', '/etc/docker-compose.yml', '/etc/tars.yaml'],
  });
  const postgres = settings.components['postgres'];
  assert.deepEqual(postgres?.settings, {
    ...{ kind: 'postgres', host: '127.0.0.1', port: 5432, user: 'postgres', service: 'postgres' },
    ...{ databases: ['tars_home'], password_file: '/etc/tars/postgres-password' },
  });
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
  assert.deepEqual(settings.components['main']?.settings, {
    ...{ kind: 'postgres', password: 'secret', user: '${PW}' },
  });
  assert.deepEqual(settings.components['config']?.settings, {
    kind: 'config',
    files: ['/etc/tars/a.env', '/b.env', '/etc/tars/tars.yaml'],
  });
});

test('directories are components too, and may stand at the top', () => {
  const text = (lines: string): string => `version: 1\nstack: s\nrepository: { path: repo }\n${lines}\n`;
  const parse = (lines: string): unknown =>
    parseSettings(text(lines), '/etc/tars.yaml', {}).components['files']?.settings;
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

const head = 'version: 1\nstack: s\nrepository: { path: r }\n';
const parseIn = (text: string, env: Record<string, string> = {}) =>
  parseSettings(text, '/etc/tars.yaml', env);

test('the text of a variable is a number or a truth value where one belongs, and text elsewhere', () => {
  const text = `version: \${V}
stack: s
repository: { path: r }
pause_max_ms: \${PAUSE}
retention: { keep_daily: "\${DAYS}", after_backup: "\${AFTER}" }
schedule: { backup: 30 2 * * *, randomized_delay_minutes: "\${DELAY}" }
services:
  app: { writer: "\${WRITER}", stop_timeout_ms: "\${STOP}" }
components:
  redis:
    port: 6\${PORT}
    password: \${PW}
`;
  const env = { V: '1', PAUSE: '3000', DAYS: '7', AFTER: 'true', DELAY: '0', WRITER: 'false', STOP: '5' };
  const settings = parseIn(text, { ...env, PORT: '379', PW: '0123456' });
  assert.equal(settings.version, 1);
  assert.equal(settings.pause_max_ms, 3000);
  assert.equal(settings.retention?.keep_daily, 7);
  assert.equal(settings.retention.after_backup, true);
  assert.equal(settings.schedule?.randomized_delay_minutes, 0);
  assert.equal(settings.services['app']?.writer, false);
  assert.equal(settings.services['app'].stop_timeout_ms, 5);
  const { redis } = settings.components;
  assert.deepEqual(redis?.settings, { kind: 'redis', port: 6379, password: '0123456' });
  const port = (value: string) => () =>
    parseIn(`${head}components:\n  redis:\n    port: \${P}\n`, { P: value });
  assert.throws(port('x'), /line 6: components\.redis\.port must be a number/);
  assert.throws(port('70000'), /line 6: components\.redis\.port/);
  assert.throws(() => parseIn(`${head}components: { redis: { port: "6379" } }`), /port must be a number/);
});

test('merge keys and x- sections work as in a Compose file; a line names what does not', () => {
  const text = `x-base: &base { kind: files, exclude: [tmp] }
x-more: &more { exclude: [other] }
${head}components:
  a: { <<: *base, paths: [/a] }
  b: { <<: [*more, *base], paths: [/b] }
`;
  const { a, b } = parseIn(text).components;
  assert.deepEqual(a?.settings, { kind: 'files', exclude: ['tmp'], paths: ['/a'] });
  assert.deepEqual(b?.settings, { kind: 'files', exclude: ['other'], paths: ['/b'] });
  const cases: [string, RegExp][] = [
    [`${head}---\n${head}`, /second document, which begins in line 4$/],
    [`---\n${head}---\n`, /second document, which begins in line 5$/],
    [`${head}stack: t\n`, /has a key twice: line 4, column 1/],
    [`${head}components: { a: { <<: text } }`, /line 4: << merges a mapping/],
    [`${head}components:\n  __proto__: { kind: files, paths: [/a] }\n`, /line 5: __proto__ is not a key/],
    [head.replace('s\n', '2024\n'), /line 2: stack must be text: write it in quotes/],
    [`${head}services: { a: { writer: yes } }`, /services\.a\.writer must be true or false/],
    ['', /the file must be a section/],
  ];
  for (const [wrong, expected] of cases) {
    assert.throws(
      () => parseIn(wrong),
      (error) => error instanceof ConfigurationError && expected.test(error.message),
      wrong,
    );
  }
  assert.throws(
    () => parseIn(`${head}components: { redis: { port: \${PORT} } }`),
    (error) => error instanceof ConfigurationError && /a variable needs quotes/.test(error.hint ?? ''),
  );
});

test('a repository is a directory of this machine; addresses of other places are refused and not repeated', () => {
  const at = (path: string): string =>
    parseIn(`version: 1\nstack: s\nrepository: { path: "${path}" }`).repository.path;
  for (const [path, kind] of [
    ['s3:s3.amazonaws.com/bucket', 's3:'],
    ['sftp:bob@host:/srv/repo', 'sftp:'],
    ['rest:https://bob:sesame@host:8000/', 'rest:'],
    ['b2:bucket:path', 'b2:'],
    ['rclone:remote:path', 'rclone:'],
    ['azure:container:/', 'azure:'],
    ['gs:bucket:/', 'gs:'],
    ['swift:container:/path', 'swift:'],
    ['https://bob:sesame@host/repo', 'https:'],
    ['S3:bucket', 's3:'],
    ['minio://host/bucket', 'minio:'],
    ['bob@host:/srv/repo', 'host:'],
    ['local:/srv/repo', 'local:'],
    ['file:///srv/repo', 'file:'],
  ] as const) {
    assert.throws(
      () => at(path),
      (error) =>
        error instanceof ConfigurationError &&
        `${error.message} ${error.hint}`.includes(kind) &&
        !`${error.message} ${error.hint}`.includes('sesame'),
      path,
    );
  }
  assert.equal(at('./s3:bucket'), '/etc/s3:bucket');
  assert.equal(at('/mnt/s3:bucket'), '/mnt/s3:bucket');
  assert.equal(at('2024-01-01T12:30'), '/etc/2024-01-01T12:30');
});

test('home is HOME, or else what the password database says; empty and relative variables count as not set', () => {
  const text = `${head}components: { files: { paths: ["~", ~/a] } }`;
  const settings = parseIn(text, { HOME: '/home/x' });
  assert.deepEqual(settings.components['files']?.settings, {
    kind: 'files',
    paths: ['/home/x', '/home/x/a'],
    exclude: [],
  });
  assert.equal(settings.state_dir, '/home/x/.local/state/tars');
  assert.equal(parseIn(head, { HOME: '/x', XDG_STATE_HOME: '/s' }).state_dir, '/s/tars');
  assert.equal(parseIn(head, { HOME: '/x', XDG_STATE_HOME: '' }).state_dir, '/x/.local/state/tars');
  assert.equal(parseIn(head, { HOME: '/x', XDG_STATE_HOME: 's' }).state_dir, '/x/.local/state/tars');
  assert.equal(parseIn(head, { HOME: '' }).state_dir, join(userInfo().homedir, '.local/state/tars'));
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
    ['components: &a\n  x: { y: *a }\n', /line 5: the alias there .* refers to the section that contains it/],
    ['components: &a\n  <<: *a\n', /line 5: the alias there/],
    ['components: *sesame\n', /line 4: the alias there .* has no anchor before it/],
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

test('tars.yaml is captured with the configuration, once, wherever there is some', () => {
  const filesOf = (components: string): unknown =>
    Object.entries(
      parseSettings(`${head}components: ${components}`, '/etc/tars/tars.yaml', {}).components,
    ).map(([name, component]) => [
      name,
      (component.configuration?.files ?? []).map((file) => basename(file)),
    ]);
  assert.deepEqual(filesOf('{ a: { kind: config, files: [x] }, b: { kind: config, files: [y] } }'), [
    ['a', ['x', 'tars.yaml']],
    ['b', ['y']],
  ]);
  assert.deepEqual(
    filesOf('{ a: { kind: config, files: [x] }, b: { kind: config, files: [./tars.yaml, y] } }'),
    [
      ['a', ['x']],
      ['b', ['tars.yaml', 'y']],
    ],
  );
  assert.deepEqual(filesOf('{ files: { paths: [/srv/a] } }'), [['files', []]]);
});
