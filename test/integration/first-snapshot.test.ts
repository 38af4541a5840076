import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { execa } from 'execa';
import { setScene } from '../fixtures/docker/documented-scene.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { documentedBlocks, Reader } from '../fixtures/documented.ts';

const docker = await dockerForTests();
const skip = docker.skip || (process.getuid?.() === 0 ? false : 'another user’s crontab needs root');
const root = join(import.meta.dirname, '../..');

test(
  'from the tarball to a verified snapshot of a running project, by the README alone, with nothing but Node',
  { skip },
  async () => {
    await using scene = await setScene(docker.engine, 'fs-');
    const { project, home, env, places } = scene;
    await execa('npm', ['pack', '--pack-destination', home], { cwd: root });
    const [tarball = ''] = (await readdir(home)).filter((name) => name.endsWith('.tgz'));
    const reader = new Reader(
      {
        ...places,
        'npm install -g ': `npm install -g --prefix ${home} ${home}/`,
        // A busy machine is no reason for less than a cut.
        'tars backup\n': "echo 'pause_max_ms: 60000' >>tars.yaml\ntars backup\n",
      },
      env,
      project.directory,
    );
    const blocks = (await documentedBlocks(join(root, 'README.md'))).filter(({ heading }) =>
      heading.startsWith('Five minutes'),
    );
    assert.ok(blocks.length > 0);
    assert.ok(
      blocks.some(({ text }) => text.includes(tarball)),
      `the README says the version of ${tarball}`,
    );
    await project.writesOn(10);
    for (const block of blocks) await reader.run(block);
    await project.writesOn(5);
    const { stdout } = await execa(join(home, 'bin/tars'), ['show', '--json'], {
      cwd: project.directory,
      env,
    });
    const { manifest } = JSON.parse(stdout) as { manifest: { outcome: string; consistency: string } };
    assert.deepEqual([manifest.outcome, manifest.consistency], ['complete', 'cut']);
    assert.match(await readFile(join(home, 'share/man/man1/tars.1'), 'utf8'), /"tars backup"/);
  },
);
