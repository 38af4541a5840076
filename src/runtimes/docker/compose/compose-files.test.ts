import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findComposeFile } from './compose-files.ts';

test('the Compose file of a directory: of the default name, or the only one of a name like it', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tars-compose-files-'));
  const create = (name: string): Promise<void> => writeFile(join(directory, name), 'services: {}\n');
  try {
    await create('tars.yaml');
    await create('docker-compose.override.yml');
    assert.equal(await findComposeFile(directory), undefined);
    await create('docker-compose.home.yml');
    assert.equal(await findComposeFile(directory), join(directory, 'docker-compose.home.yml'));
    await create('compose.prod.yaml');
    assert.equal(await findComposeFile(directory), undefined, 'two are no answer');
    await create('compose.yaml');
    assert.equal(await findComposeFile(directory), join(directory, 'compose.yaml'));
    assert.equal(await findComposeFile(join(directory, 'missing')), undefined);
  } finally {
    await rm(directory, { recursive: true });
  }
});
