import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { requireCommand } from './command.ts';

test('a command that fails comes with the command that tells why, and without the arguments of the operator', async () => {
  const root = await mkdtemp(join(tmpdir(), 'tars-command-'));
  const path = process.env['PATH'];
  try {
    const systemctl = join(root, 'systemctl');
    await writeFile(systemctl, '#!/bin/sh\nexit 1\n');
    await chmod(systemctl, 0o755);
    process.env['PATH'] = `${root}:${path ?? ''}`;
    await assert.rejects(
      requireCommand(['systemctl', 'start', 'my db.service'], 'start db', { timeoutMs: 60_000 }),
      {
        message: 'Cannot start db: systemctl ended with 1',
        hint: "Read why with: systemctl status 'my db.service', and: journalctl --unit 'my db.service'",
      },
    );
    await assert.rejects(
      requireCommand(['false', '--password', 'hunter2hunter2'], 'stop db', { timeoutMs: 60_000 }),
      {
        message: 'Cannot stop db: false ended with 1',
        hint: 'To see its output, run the false command by hand, as the user who runs tars. It is under services in tars.yaml, to stop db.',
      },
    );
  } finally {
    process.env['PATH'] = path;
    await rm(root, { recursive: true });
  }
});
