import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unsetVariables } from './compose-cli.ts';

test('the warnings of Compose about variables come to their names, each once', () => {
  const stderr = [
    String.raw`time="2026-01-01T00:00:00Z" level=warning msg="The \"API_KEY\" variable is not set. Defaulting to a blank string."`,
    String.raw`time="2026-01-01T00:00:00Z" level=warning msg="The \"API_KEY\" variable is not set. Defaulting to a blank string."`,
    'WARN[0000] The "HOST" variable is not set. Defaulting to a blank string.',
    'WARNING: The OLD variable is not set. Defaulting to a blank string.',
    'level=warning msg="the attribute `version` is obsolete"',
  ].join('\n');
  assert.deepEqual(unsetVariables(stderr), ['API_KEY', 'HOST', 'OLD']);
  assert.deepEqual(unsetVariables(''), []);
});
