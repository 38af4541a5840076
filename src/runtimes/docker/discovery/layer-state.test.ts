import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unmountedState } from './layer-state.ts';

test('data that lies in a container itself is found by its directory or by its database', () => {
  const changed = ['/data', '/data/data.db', '/app', '/app/backend', '/app/backend/store.sqlite3'];
  assert.deepEqual(unmountedState(changed, []), ['/app/backend', '/data']);
  assert.deepEqual(unmountedState(['/srv', '/srv/uploads', '/srv/uploads/a', '/srv/uploads/a/1.png'], []), [
    '/srv/uploads',
  ]);
});

test('a key that an application made in its container is named itself', () => {
  const changed = ['/app/backend', '/app/backend/.webui_secret_key', '/app/server/.env', '/app/server/x.js'];
  assert.deepEqual(unmountedState(changed, []), ['/app/backend/.webui_secret_key', '/app/server/.env']);
});

test('mounts, empty directories and what programs write at each start are none', () => {
  const changed = [
    ...['/data', '/data/inner', '/uploads', '/tmp/x.db', '/run/a.sqlite', '/var/cache/data/x', '/etc/data/x'],
    ...['/root/.cache/data/x', '/app/node_modules/data/x', '/usr/share/data/x.db', '/app/logs/data/x'],
  ];
  assert.deepEqual(unmountedState(changed, ['/data/inner']), []);
  assert.deepEqual(unmountedState(['/data/inner/x', '/data/other'], ['/data/inner']), ['/data']);
});
