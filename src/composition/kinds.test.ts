import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ComponentManifest } from '../model/manifest.ts';
import { settingsForProject } from '../settings/other-project.ts';
import { recoveryOf } from './kinds.ts';
import { parseSettings } from './settings.ts';

const head = 'version: 1\nstack: s\nrepository: { path: /r }\n';

test('a component is recovered by the settings of its own kind, and without settings after its kind changed', () => {
  const { components } = parseSettings(
    `${head}components: { cache: { kind: redis, port: 6390 } }`,
    '/t.yaml',
    {},
  );
  const persistence = { dbFilename: 'dump.rdb', appendDirName: 'aof', appendFilename: 'aof' };
  const captured = (kind: string, facts: Record<string, unknown>): ComponentManifest => ({
    ...{ name: 'cache', kind, outcome: 'captured', facts, artifacts: [] },
  });
  const stepOf = (component: ComponentManifest) => {
    const recovery = recoveryOf(component, components, {});
    assert.ok(recovery);
    return recovery.step({ component, home: recovery.home, compose: undefined });
  };
  const same = stepOf(captured('redis', { persistence }));
  assert.match(same.then?.join() ?? '', /redis-cli -p 6390 info keyspace/);
  const before = stepOf(captured('ollama', { models: [] }));
  assert.equal(before.title, 'Ollama (cache)');
  assert.equal(recoveryOf(captured('unknown', {}), components, {}), undefined);
});

test('nothing of a second Compose project points to the first', () => {
  const settings = parseSettings(
    `${head}docker: { project: first }
components:
  postgres: { service: db, host: first.example, port: 5433, user: u }
  main: { kind: redis, service: cache, host: first.example, port: 6390, username: u, data_dir: /first/redis }
  local: { kind: redis, service: cache, socket: /first/redis.sock }
  chroma: { service: vectors, url: 'http://first.example', path: /first/chroma }
  ollama: { service: models, url: 'http://first.example', path: /first/ollama }
  files: { paths: [/first/files] }
  inner: { kind: files, service: app, inside: /data }
  config: { files: [/first/.env] }
`,
    '/t.yaml',
    {},
  );
  const { components, docker } = settingsForProject(settings, 'second', []);
  assert.equal(docker?.project, 'second');
  assert.deepEqual(Object.keys(components), ['postgres', 'main', 'local', 'chroma', 'ollama', 'inner']);
  assert.doesNotMatch(JSON.stringify(components), /first/);
  for (const [name, { places, container, recovery }] of Object.entries(components)) {
    assert.deepEqual(places.paths, [], name);
    assert.equal(container?.givenAddress, undefined, name);
    assert.equal(recovery.home.inContainer === true ? undefined : recovery.home.directory, undefined, name);
  }
  // A port beside a host is that host's; the one of a container stays.
  assert.deepEqual(
    { ...components['main']?.settings },
    {
      ...{ kind: 'redis', service: 'cache', username: 'u' },
      ...{ host: undefined, port: undefined, data_dir: undefined, socket: undefined },
    },
  );
});

test('doctor counts in scratch_dir what a backup spools there whole', () => {
  const { components } = parseSettings(
    `${head}components: { postgres: {}, redis: {}, chroma: {}, ollama: { path: /o }, files: { paths: [/f] } }`,
    '/t.yaml',
    {},
  );
  const scratch = Object.entries(components).map(([name, { places }]) => [name, places.scratch]);
  assert.deepEqual(Object.fromEntries(scratch), {
    postgres: 'archives',
    redis: 'all',
    chroma: 'all',
    ollama: undefined,
    files: undefined,
  });
});
