import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutCaptured, type CapturedPlace } from './captured-place.ts';

const volume = (service: string, name: string, destination: string) =>
  ({ service, type: 'volume', source: name, path: `/volumes/${name}/_data`, destination }) as const;
const bind = (service: string, source: string, destination: string) =>
  ({ service, type: 'bind', source, path: source, destination }) as const;

const left = (mounts: Parameters<typeof withoutCaptured>[0], ...places: CapturedPlace[]): string[] =>
  withoutCaptured(mounts, places).map(({ service, destination }) => `${service}:${destination}`);

test('without components every mount is left, in order', () => {
  const mounts = [bind('b', '/srv/x', '/x'), volume('a', 'v', '/v'), volume('a', 'u', '/u')];
  assert.deepEqual(left(mounts), ['a:/u', 'a:/v', 'b:/x']);
});

test("a store's directory stands for the innermost mount it lies in, wherever else that is mounted", () => {
  const mounts = [
    volume('db', 'pg', '/var/lib/postgresql'),
    volume('db', 'outer', '/var/lib'),
    volume('copier', 'pg', '/from'),
    volume('copier', 'pg-copy', '/to'),
    volume('other', 'theirs', '/var/lib/postgresql'),
  ];
  assert.deepEqual(left(mounts, { store: '/var/lib/postgresql/data', service: 'db' }), [
    'copier:/to',
    'db:/var/lib',
    'other:/var/lib/postgresql',
  ]);
  assert.deepEqual(left([bind('llm', '/srv/ollama', '/root/.ollama')], { store: '/srv/ollama/models' }), []);
});

test('a tree captures what is mounted from within it, and of a mount above it only a part', () => {
  const mounts = [
    bind('web', '/srv/site', '/site'),
    bind('web', '/srv/site-two', '/two'),
    bind('web', '/etc/web.conf', '/conf'),
    volume('web', 'uploads', '/uploads'),
  ];
  assert.deepEqual(left(mounts, { tree: '/srv/site' }, { tree: '/etc/web.conf' }), [
    'web:/two',
    'web:/uploads',
  ]);
  assert.deepEqual(left(mounts, { tree: '/srv' }), ['web:/conf', 'web:/uploads']);
  assert.ok(left(mounts, { tree: '/srv/site/images' }).includes('web:/site'));
  assert.ok(!left(mounts, { tree: '/uploads', service: 'web' }).includes('web:/uploads'));
  assert.ok(left(mounts, { tree: '/uploads/a', service: 'web' }).includes('web:/uploads'));
  assert.ok(left(mounts, { tree: '/uploads', service: 'api' }).includes('web:/uploads'));
});
