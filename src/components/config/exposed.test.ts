import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { exposedConfigFiles } from './exposed.ts';

test('configuration that holds a secret and that everybody can read is named, and nothing else', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-exposed-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const write = async (name: string, text: string, mode: number): Promise<string> => {
    await writeFile(join(root, name), text);
    await chmod(join(root, name), mode);
    return join(root, name);
  };
  const open = await write('.env', 'API_TOKEN=sesame-open-0123456789\n', 0o644);
  const paths = [
    open,
    open,
    await write('closed.env', 'API_TOKEN=sesame-open-0123456789\n', 0o640),
    await write('plain.env', 'LOG_LEVEL=info\nMAX_TOKENS=4096\n', 0o644),
    join(root, 'gone.env'),
    root,
  ];
  assert.deepEqual(await exposedConfigFiles(paths, [], new AbortController().signal), [open]);
});
