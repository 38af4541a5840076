import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ollamaStep } from './stores.ts';

test('an Ollama without models says that there is nothing to put back', () => {
  const step = (models: readonly object[]) =>
    ollamaStep({
      component: { name: 'ollama', kind: 'ollama', outcome: 'captured', facts: { models }, artifacts: [] },
      home: {},
      compose: undefined,
    });
  const empty = step([]);
  assert.match(empty.text.join(), /no models/);
  assert.deepEqual([empty.commands, empty.then], [[], []]);
  const listed = step([{ name: 'tiny', stored: 'name' }]);
  assert.deepEqual(listed.text, []);
  assert.match(listed.then?.join() ?? '', /ollama pull: tiny$/);
});
