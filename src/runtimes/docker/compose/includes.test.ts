import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { readDefinition } from './definition.ts';
import { readComposeTexts } from './includes.ts';

const files = {
  'compose.yml': `
include:
  - part/compose.yml
  - { path: [two/a.yml, two/b.yml], env_file: two/own.env }
  - { path: '\${WHERE}/c.yml', project_directory: base }
  - https://example.org/repository.git
`,
  'part/compose.yml': 'include: [../compose.yml, deeper.yml]\nservices: { side: { image: "side:${TAG}" } }\n',
  'part/.env': 'TAG=of-part\nWORD=of-part\n',
  'part/deeper.yml': 'services: { deep: { image: "deep:${TAG}-${WORD}", env_file: deep.env } }\n',
  'two/a.yml': 'services: { a: { image: "a:${TAG}" } }\n',
  'two/b.yml': 'services: { b: { image: b } }\n',
  'two/own.env': 'TAG=of-two\n',
  'three/c.yml': 'services: { c: { image: c, env_file: c.env } }\n',
};

test('included files, with environment files of their own, are files of the project', async () => {
  const root = await mkdtemp(join(tmpdir(), 'tars-include-'));
  try {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(root, name)), { recursive: true });
      await writeFile(join(root, name), text);
    }
    const composeFile = join(root, 'compose.yml');
    const variables = { WHERE: 'three', WORD: 'outer' };
    const { files: mentioned, optional, services } = await readDefinition([composeFile], 'lab', variables);
    const below = (paths: readonly string[]) => paths.map((path) => path.slice(root.length + 1)).sort();
    const composeFiles = [
      'compose.yml',
      'part/compose.yml',
      'part/deeper.yml',
      'three/c.yml',
      'two/a.yml',
      'two/b.yml',
    ];
    assert.deepEqual(
      below(mentioned),
      [...composeFiles, 'base/c.env', 'part/deep.env', 'two/own.env'].sort(),
    );
    assert.deepEqual(below(optional), ['.env', 'base/.env', 'part/.env']);
    assert.equal(services.get('deep')?.image, 'deep:of-part-outer', 'the file that includes goes first');
    assert.equal(services.get('a')?.image, 'a:of-two');

    const texts = await readComposeTexts([composeFile, join(root, 'missing.yml')], root, variables);
    assert.equal(texts.length, composeFiles.length + 1);
    const tags = texts.map(({ variables: { TAG: tag } }) => tag);
    assert.deepEqual([...new Set(tags)].sort(), ['of-part', 'of-two', undefined]);
  } finally {
    await rm(root, { recursive: true });
  }
});
