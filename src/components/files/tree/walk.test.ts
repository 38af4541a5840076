import assert from 'node:assert/strict';
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { OpenDirectory } from '../../../disk/open-directory.ts';
import { walkTree } from './walk.ts';

async function scene(t: TestContext): Promise<string> {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-walk-')));
  t.after(() => rm(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'tree/a/deep'), { recursive: true });
  mkdirSync(join(root, 'tree/b'));
  mkdirSync(join(root, 'outside'));
  for (const path of ['tree/a/file', 'tree/a.b', 'tree/b/file', 'outside/secret'])
    writeFileSync(join(root, path), '');
  return root;
}

const onFailure = (path: string): void => assert.equal(path, '', 'could not be read');

test('parents come first, and what is in a directory right after it', async (t) => {
  const root = await scene(t);
  using tree = OpenDirectory.open(join(root, 'tree'));
  const rules = { leaveOut: (path: string) => path === 'a/deep', onFailure };
  const steps = [...walkTree(tree, rules)].map(({ kind, path }) => `${kind} ${path}`);
  const expected = ['enter ', 'enter a', 'entry a/file', 'leave a', 'entry a.b', 'enter b', 'entry b/file'];
  assert.deepEqual(steps, [...expected, 'leave b', 'leave ']);
});

test('a directory that becomes a link, before or after it is looked at, is not followed', async (t) => {
  const root = await scene(t);
  using tree = OpenDirectory.open(join(root, 'tree'));
  const seen: string[] = [];
  const become = (name: string): void => {
    renameSync(join(root, 'tree', name), join(root, `was-${name}`));
    symlinkSync('../outside', join(root, 'tree', name));
  };
  const rules = {
    leaveOut(path: string): boolean {
      // Between the look and the opening.
      if (path === 'a' && !seen.includes('a')) {
        seen.push('a');
        become('a');
      }
      return false;
    },
    onFailure,
  };
  for (const step of walkTree(tree, rules)) {
    if (step.kind === 'leave') continue;
    seen.push(step.path);
    if (step.path === 'b') become('b');
  }
  // The first is a link by then; the second was open, and what it was is walked.
  assert.deepEqual(seen, ['', 'a', 'a', 'a.b', 'b', 'b/file']);
});
