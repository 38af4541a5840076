import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { tars } from '../fixtures/cli.ts';

test('what the demo keeps can be looked at as it says, without its servers', async () => {
  const { exitCode, stdout, stderr } = await tars(['demo', '--keep']);
  const config = /^ {2}tars --config (\S+) show$/m.exec(stdout)?.[1];
  assert.ok(config, stdout + stderr);
  try {
    assert.equal(exitCode, 0, stderr);
    const said = stdout.slice(stdout.indexOf('It is all kept'));
    assert.match(said, /the private servers are stopped/);
    for (const verb of ['show', 'snapshots', 'check']) {
      assert.match(said, new RegExp(`\\b${verb}\\b`));
      const look = await tars(['--config', config, verb]);
      assert.equal(look.exitCode, 0, `${verb}: ${look.stderr}`);
    }
    assert.notEqual((await tars(['--config', config, 'verify'])).exitCode, 0, 'which it says needs them');
  } finally {
    await rm(dirname(config), { recursive: true });
  }
});
