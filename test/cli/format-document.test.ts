import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { tars } from '../fixtures/cli.ts';

test('the restic commands in FORMAT.md bring a snapshot back as they stand', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-format-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const config = ['--config', join(root, 'tars.yaml')];
  await writeFile(join(root, 'app.env'), 'TOKEN=sesame-open-0123\n');
  const settings = {
    ...{ version: 1, stack: 'tars-home', scratch_dir: root, state_dir: 'state' },
    repository: { path: 'repository', password_file: 'recovery.key' },
    components: { config: { files: ['app.env'] } },
  };
  await writeFile(join(root, 'tars.yaml'), stringify(settings));
  for (const verb of ['init', 'backup']) assert.equal((await tars([...config, verb])).exitCode, 0, verb);

  const document = await readFile(new URL('../../docs/FORMAT.md', import.meta.url), 'utf8');
  const [, block] = /```sh\n([^`]*restic restore[^`]*)```/.exec(document) ?? [];
  assert.ok(block);
  const places = {
    '/mnt/backup/tars': join(root, 'repository'),
    '/etc/tars/tars-recovery.key': join(root, 'recovery.key'),
    '/tmp/rescue': join(root, 'rescue'),
  };
  let script = block;
  for (const [place, here] of Object.entries(places)) {
    assert.ok(script.includes(place), place);
    script = script.replaceAll(place, here);
  }
  const { stdout } = await execa('sh', ['-eu', '-c', script], {
    env: { RESTIC_CACHE_DIR: join(root, 'cache') },
  });
  assert.match(stdout, /no errors were found/);
  const restored = join(root, 'rescue', 'tars', 'tars-home', 'config', 'true', root, 'app.env');
  assert.equal(await readFile(restored, 'utf8'), 'TOKEN=sesame-open-0123\n');
});
