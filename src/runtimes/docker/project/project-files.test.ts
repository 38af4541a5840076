import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { callOf, runsFrom, wholeCalls, type ComposeCall } from './project-files.ts';

const root = await mkdtemp(join(tmpdir(), 'tars-project-files-'));
after(() => rm(root, { recursive: true, force: true }));
const at = (path: string): string => join(root, path);

async function write(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(at(path)), { recursive: true });
    await writeFile(at(path), text);
  }
}

const call = (directory: string, ...files: readonly string[]): ComposeCall => ({
  workingDir: at(directory),
  files: files.map(at),
  envFiles: [],
});

test('labels of both versions of Compose give absolute paths', () => {
  assert.deepEqual(callOf({ workingDir: '/p', files: 'a.yml,/q/b.yml', envFiles: undefined }), {
    workingDir: '/p',
    files: ['/p/a.yml', '/q/b.yml'],
    envFiles: [],
  });
  assert.deepEqual(callOf({ workingDir: '', files: undefined, envFiles: '' }), {
    workingDir: undefined,
    files: [],
    envFiles: [],
  });
});

test('a call whose files another one includes or names adds nothing', async () => {
  await write({
    'a/.env': 'PART=part\n',
    'a/compose.yaml': 'include:\n  - ${PART}/compose.yaml\n',
    'a/part/compose.yaml': 'include: [deep/compose.yaml]\n',
    'a/part/deep/compose.yaml': 'services: {}\n',
    'a/more.yaml': 'services: {}\n',
  });
  const whole = call('a', 'a/compose.yaml');
  const part = call('a/part', 'a/part/compose.yaml');
  const deep = call('a/part/deep', 'a/part/deep/compose.yaml');
  assert.deepEqual(await wholeCalls([deep, part, whole, part]), [whole]);
  const both = call('a', 'a/compose.yaml', 'a/more.yaml');
  assert.deepEqual(await wholeCalls([whole, deep, both]), [both]);
});

test('calls with files of their own are all kept, in their order', async () => {
  await write({ 'b/one.yaml': 'services: {}\n', 'b/two.yaml': 'services: {}\n' });
  const [one, two] = [call('b', 'b/one.yaml'), call('b', 'b/two.yaml')];
  assert.deepEqual(await wholeCalls([two, one, two]), [two, one]);
});

test('files that include each other are one call, the first', async () => {
  await write({ 'c/x.yaml': 'include: [y.yaml]\n', 'c/y.yaml': 'include: [x.yaml]\n' });
  const [x, y] = [call('c', 'c/x.yaml'), call('c', 'c/y.yaml')];
  assert.deepEqual(await wholeCalls([y, x]), [y]);
});

test('a file that is gone includes nothing, and labels without files are no call', async () => {
  const gone = call('d', 'd/gone.yaml');
  assert.deepEqual(await wholeCalls([gone, { workingDir: undefined, files: [], envFiles: [] }]), [gone]);
});

test('a file that cannot be read includes nothing, and costs no other', async () => {
  await mkdir(at('e/compose.yaml'), { recursive: true });
  await write({ 'e/other.yaml': 'services: {}\n' });
  const [broken, other] = [call('e', 'e/compose.yaml'), call('e', 'e/other.yaml')];
  assert.deepEqual(await wholeCalls([broken, other]), [broken, other]);
});

test('a project runs from where Compose was run, and from where its first file lies', async () => {
  await mkdir(at('f/real'), { recursive: true });
  await mkdir(at('g'), { recursive: true });
  await symlink(at('f/real'), at('f/link'));
  const project = { workingDirs: [at('f/link')], composeFiles: [at('g/compose.yaml'), at('h/shared.yaml')] };
  for (const [directory, runs] of [
    ...[
      ['f/real', true],
      ['f/link', true],
    ],
    ...[
      ['g', true],
      ['h', false],
      ['f', false],
    ],
  ] as const)
    assert.equal(await runsFrom(project, at(directory)), runs, directory);
});
