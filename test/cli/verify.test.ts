import assert from 'node:assert/strict';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { tars } from '../fixtures/cli.ts';
import { startSmallStack, type SmallStack } from '../fixtures/small-stack.ts';

let stack: SmallStack;
before(async () => void (stack = await startSmallStack()));
after(() => stack[Symbol.asyncDispose]());

test('a difference comes with the writers that may explain it', async () => {
  const service = (status: string) => ({ writer: true, start: ['true'], stop: ['true'], status: [status] });
  const services = { backend: service('true'), idle: service('false') };
  const components = { site: { kind: 'files', paths: ['site'] } };
  await mkdir(join(stack.root, 'site'));
  await writeFile(join(stack.root, 'site/page'), 'one');
  const written = await stack.changed({ components, services });
  const quiet = await stack.changed({ components });
  assert.equal((await tars([...quiet, 'backup'])).exitCode, 0);
  const same = await tars([...written, 'verify']);
  assert.equal(same.exitCode, 0, same.stderr);
  assert.doesNotMatch(same.stdout, /since the snapshot/);
  await rm(join(stack.root, 'site'), { recursive: true });
  const differs = await tars([...written, 'verify']);
  assert.equal(differs.exitCode, 1);
  assert.match(
    differs.stdout,
    /since the snapshot .*, and backend may be writing\. .*stop backend, then run tars backup/,
  );
  assert.match(
    (await tars([...quiet, 'verify'])).stdout,
    /^Everything written since the snapshot is a difference too\.$/m,
  );
});
