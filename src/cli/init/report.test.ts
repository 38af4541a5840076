import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Settings } from '../../settings/load.ts';
import { renderFound } from './report.ts';

test('a tars.yaml that was there already was not filled in', () => {
  const settings = { components: { db: {}, cache: {} } } as unknown as Settings;
  assert.deepEqual(renderFound(settings, false), ['It names: db, cache.']);
  assert.deepEqual(renderFound(settings, true), ['Found and filled in: db, cache.']);
  assert.deepEqual(renderFound({ ...settings, components: {} }, false), ['It names no component.']);
});
