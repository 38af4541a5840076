import { Ajv } from 'ajv';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { StackInventory } from '../ports/inventory.ts';
import type { KindProposal } from '../ports/kind.ts';
import { composeTemplate } from '../settings/compose-template.ts';
import { schemaLine } from '../settings/json-schema.ts';
import { noCare, type CareValues } from '../settings/template-sections.ts';
import { settingsTemplate } from '../settings/template.ts';
import { proposeStores } from './kinds.ts';
import { parseSettings, settingsJsonSchema } from './settings.ts';

const accepts = new Ajv({ allErrors: true }).compile(settingsJsonSchema());
const read = (path: string): Promise<string> =>
  readFile(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');

/** That the schema and the loader agree on `text`. */
function assertRight(text: string): void {
  assert.ok(accepts(parse(text)), `${JSON.stringify(accepts.errors, null, 2)}\n${text}`);
  parseSettings(text, '/etc/tars.yaml', { PASS: 'x', NAME: 'y', PORT: '1', TRUE: 'true' });
}

function assertWrong(text: string): void {
  assert.ok(!accepts(parse(text)), text);
  assert.throws(() => parseSettings(text, '/etc/tars.yaml', {}), text);
}

const cares: CareValues[] = [
  noCare,
  { nightly: { hour: 2, minute: 30 }, retention: true },
  { nightly: { hour: 23, minute: 5 }, retention: false },
  { nightly: undefined, retention: true },
];
const common = { stack: 's', repositoryPath: '/r', passwordFile: '/k' };
const proposals = await proposeStores({}, () => Promise.resolve(true));
const proposing = (isFound: boolean): readonly KindProposal[] =>
  proposals.map((proposal) => ({ ...proposal, isFound }));

test('the published schema is the one of this version, where the first line of a tars.yaml says it is', async () => {
  const published = await readFile(fileURLToPath(schemaLine.replace(/^.*\$schema=/, '')), 'utf8');
  assert.deepEqual(JSON.parse(published), settingsJsonSchema(), 'run npm run schema');
});

test('it accepts what init writes for local services, with and without its comments', () => {
  for (const care of cares) {
    for (const isFound of [false, true]) {
      const text = settingsTemplate({ ...common, proposals: proposing(isFound), care });
      assert.ok(text.startsWith('# yaml-language-server: $schema=file://'));
      assertRight(text.replaceAll('${POSTGRES_PASSWORD}', '${PASS}'));
      const { schedule, retention } = parse(text) as Record<string, object | undefined>;
      assert.equal(schedule !== undefined, care.nightly !== undefined);
      assert.equal(retention !== undefined, care.retention);
      assert.equal('forget' in (schedule ?? {}), care.retention && care.nightly !== undefined);
    }
  }
  const asked = settingsTemplate({ ...common, proposals: proposing(false), care: cares[1]! });
  const proposed = { backup: '30 2 * * *', forget: '0 4 * * 0', check: '0 5 1 * *' };
  assert.deepEqual((parse(asked) as { schedule: unknown }).schedule, proposed);
  const comments = settingsTemplate({ ...common, proposals: proposing(false), care: noCare });
  // As an operator uncomments them.
  const uncommented = comments.replaceAll(/^# (retention|schedule):/gm, '$1:');
  assertRight(uncommented);
  assert.deepEqual((parse(uncommented) as { schedule: unknown }).schedule, proposed);
});

const leftOut = {
  service: 'app',
  type: 'volume',
  source: 'v',
  path: '/v',
  sizeBytes: 1,
  isDirectory: true,
} as const;

const project: StackInventory = {
  ...{ project: 'home', host: undefined, seenThrough: 'containers', composeFiles: ['/srv/compose.yaml'] },
  ...{ envFiles: [], notes: ['a note'], unusedVolumes: ['home_old'] },
  places: [
    {
      ...{ name: 'redis', service: 'app', inside: '/data', type: 'volume', source: 'home_redis' },
      ...{ path: '/v', sizeBytes: 5 << 20, others: ['worker:/srv'], writers: ['app'], exclude: [] },
    },
    {
      ...{ name: 'data', service: 'app', inside: '/app data', type: 'bind', source: '/srv/${data}' },
      ...{
        path: '/srv/${data}',
        sizeBytes: undefined,
        others: [],
        writers: ['app'],
        exclude: ['/a [b]', '/c'],
      },
    },
  ],
  leftOut: [
    { ...leftOut, destination: '/var/log', reason: 'logs', problem: undefined },
    { ...leftOut, destination: '/nas', reason: undefined, problem: 'is not there' },
  ],
  stores: proposals.map(({ kind }) => ({
    ...{ service: `the-${kind}`, kind, how: 'by its label', passwordFile: undefined },
    ...{ password: 'known', port: undefined, tls: kind === 'redis', warning: undefined },
    ...{ riskIfUnmounted: 'AT RISK', proposal: [] },
  })),
  writers: [{ service: 'api', why: 'depends on db' }],
  files: [{ path: '/srv/compose.yaml', problem: undefined }],
};

test('it accepts what init writes for a Compose project', () => {
  for (const care of cares) {
    assertRight(composeTemplate(project, { ...common, care, settingsPath: '/srv/tars.yaml' }));
    const empty = {
      ...project,
      stores: [],
      writers: [],
      files: [],
      places: [],
      leftOut: [],
      unusedVolumes: [],
    };
    assertRight(composeTemplate(empty, { ...common, care, settingsPath: '/srv/tars.yaml' }));
  }
});

test('every place is an active component, and what is left out says why', () => {
  const text = composeTemplate(project, { ...common, care: noCare, settingsPath: '/srv/tars.yaml' });
  const written = parse(text) as Record<string, unknown>;
  const components = written['components'] as Record<string, unknown>;
  // A store has its name already.
  assert.deepEqual(components['redis-2'], { kind: 'files', service: 'app', inside: '/data' });
  assert.deepEqual(components['data'], {
    ...{ kind: 'files', service: 'app', inside: '/app data' },
    exclude: ['/a [b]', '/c'],
  });
  assert.match(text, /^ {2}redis-2: # volume home_redis, 5.00 MiB; the same as worker:\/srv$/m);
  assert.equal(written['everything'], true);
  assert.deepEqual(written['leave_out'], { 'app:/var/log': 'logs' });
  assert.match(text, /^# {3}app:\/nas # is not there\n# {3}volume home_old # no service has it$/m);
  const settings = parseSettings(text, '/srv/tars.yaml', {});
  assert.deepEqual(settings.components['redis-2']?.places.inside, { path: '/data', isWhole: true });
  assert.deepEqual(settings.leave_out, written['leave_out']);
});

test('it accepts the example of the README', async () => {
  const examples = [...(await read('README.md')).matchAll(/^```yaml\n(version: 1\n.*?)^```$/gms)];
  assert.ok(examples.length > 0);
  for (const [, text = ''] of examples) assertRight(text);
});

const head = 'version: 1\nstack: home\nrepository: { path: /r }\n';

test('it accepts what the loader fills in, and refuses what the loader refuses', () => {
  for (const rest of [
    'components:\nservices:\n',
    'components: { redis: , postgres: { user: x, password: "${PASS}" } }\n',
    'components: { cache: { kind: redis }, config: { files: [a] }, files: { paths: [/d] } }\n',
    'files: [/srv/data]\n',
    'components: { redis: { port: "${PORT}" } }\nservices: { app: { writer: "${TRUE}" } }\n',
    'x-paths: &paths [/a]\nfiles: *paths\n',
    'retention: { keep_daily: 7, keep_within: 1y6m }\nschedule: { backup: 30 2 * * * }\n',
    'docker: { project: p }\neverything: true\nleave_out: { "web:/app/x": y, volume z: y }\n',
    'leave_out:\n',
  ])
    assertRight(`${head}${rest}`);
  assertRight(head.replace('home', '"${NAME}"'));
  for (const rest of [
    'componets: {}\n',
    'components: { redis: { prot: 6379 } }\n',
    'components: { redis: { port: "6379" } }\n',
    'components: { cache: { port: 6379 } }\n',
    'components: { cache: { kind: rediss } }\n',
    'components: { Cache: { kind: redis } }\n',
    'components: { config: {} }\n',
    'retention: { keep_daily: 0 }\n',
    'retention: { keep_within: 3 weeks }\n',
    'services: { app: { writer: yes please } }\n',
    'secrets: none\n',
    'docker: { project: p }\nleave_out: { logs: y }\n',
    'docker: { project: p }\nleave_out: [web:/logs]\n',
  ])
    assertWrong(`${head}${rest}`);
  assertWrong(head.replace('version: 1', 'version: 2'));
  assertWrong(head.replace('home', '-home'));
});
