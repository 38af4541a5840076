import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { composeCommand } from '../../../../test/fixtures/docker/engine.ts';
import { testContext } from '../../../../test/fixtures/context.ts';
import { ComposeProject } from './compose-cli.ts';

const command = await composeCommand('v2').catch(() => undefined);
const skip = command === undefined && 'Docker Compose 2 is not here';

test('services of profiles have a hash too, and the others keep theirs', { skip }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tars-hashes-'));
  try {
    const file = join(directory, 'compose.yaml');
    const cli = { command: command ?? [], major: 2, version: '2' };
    const address = { host: 'unix:///var/run/docker.sock', certDir: undefined };
    const hashes = async (text: string): Promise<ReadonlyMap<string, string>> => {
      await writeFile(file, `services:\n  web: {image: web}\n${text}`);
      const files = { project: 'p', files: [file], envFiles: [], directory };
      return new ComposeProject(cli, address, files).hashes(testContext());
    };
    const alone = await hashes('');
    const first = await hashes('  job: {image: job, profiles: [extra]}\n');
    const second = await hashes('  job: {image: other, profiles: [extra]}\n');
    assert.match(first.get('job') ?? '', /^[0-9a-f]{64}$/);
    assert.notEqual(second.get('job'), first.get('job'), 'a changed service has another hash');
    assert.equal(first.get('web'), alone.get('web'));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
