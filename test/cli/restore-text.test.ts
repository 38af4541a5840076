import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { tars } from '../fixtures/cli.ts';
import { startSmallStack, type SmallStack } from '../fixtures/small-stack.ts';

let stack: SmallStack;
before(async () => {
  stack = await startSmallStack();
});
after(() => stack[Symbol.asyncDispose]());

test('a component with nothing to do says so, and one that moved nothing aside has no way back', async () => {
  const models = join(stack.root, 'no-models');
  await mkdir(join(models, 'manifests'), { recursive: true });
  await mkdir(join(models, 'blobs'));
  const args = await stack.changed({
    components: { ollama: { path: models, models: 'list' }, config: { files: ['app.env'] } },
  });
  const run = async (...words: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await tars([...args, ...words]);
    assert.equal(exitCode, 0, stderr);
    return stdout;
  };
  await writeFile(join(stack.root, 'app.env'), 'A=1\n');
  await run('backup');
  assert.match(await run('restore', '--dry-run'), /^ {2}ollama:\n {4}- Nothing to do$/m);
  assert.doesNotMatch(await run('restore', '--yes'), /moved aside|config:$/m);
});
