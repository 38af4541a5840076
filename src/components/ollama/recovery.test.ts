import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recovery } from './recovery.ts';

test('an Ollama without models says that there is nothing to put back', () => {
  const component = { name: 'ollama', kind: 'ollama', outcome: 'captured' } as const;
  const step = (models: readonly object[]) =>
    recovery.step(
      { component: { ...component, facts: { models }, artifacts: [] }, home: {}, compose: undefined },
      undefined,
    );
  const empty = step([]);
  assert.match(empty.text.join(), /no models/);
  assert.deepEqual([empty.commands, empty.then], [[], []]);
  const listed = step([{ name: 'tiny', stored: 'name' }]);
  assert.deepEqual(listed.text, []);
  assert.match(listed.then?.join() ?? '', /ollama pull: tiny$/);
});
