import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { syncsOf, whileDirectoriesFail } from '../../test/fixtures/watched-fsync.ts';
import {
  createDurably,
  publishDurably,
  replaceDurably,
  replaceDurablyIn,
  replaceDurablySync,
} from './durable-file.ts';
import { OpenDirectory } from './open-directory.ts';

const { signal } = new AbortController();

async function directoryOf(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'tars-durable-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  return root;
}

async function* failing(): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(Buffer.from('half'));
  throw new Error('The source failed');
}

const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o7777;

test('a new file has its bytes, its mode and what finishes it, and replaces nothing', async (t) => {
  const root = await directoryOf(t);
  const path = join(root, 'file');
  await createDurably(path, [Buffer.from('one '), Buffer.from(''), Buffer.from('two')], {
    finish: (file) => file.chmod(0o640),
  });
  assert.equal(await readFile(path, 'utf8'), 'one two');
  assert.equal(await modeOf(path), 0o640);
  await assert.rejects(createDurably(path, 'other'), { code: 'EEXIST' });
  await assert.rejects(publishDurably(path, [Buffer.from('other')], { signal }), { code: 'EEXIST' });
  assert.equal(await readFile(path, 'utf8'), 'one two');
  assert.deepEqual(await readdir(root), ['file']);
});

test('nothing of a new file remains when its source or what finishes it fails', async (t) => {
  const root = await directoryOf(t);
  await assert.rejects(createDurably(join(root, 'a'), failing()), /The source failed/);
  const finish = (): Promise<void> => Promise.reject(new Error('chmod failed'));
  await assert.rejects(createDurably(join(root, 'b'), 'text', { finish }), /chmod failed/);
  const aborted = { signal: AbortSignal.abort() };
  await assert.rejects(publishDurably(join(root, 'c'), [Buffer.from('text')], aborted), {
    code: 'interrupted',
  });
  assert.deepEqual(await readdir(root), []);
});

test('a file is replaced whole or stays as it was, also after a run that was killed', async (t) => {
  const root = await directoryOf(t);
  const path = join(root, 'file');
  await writeFile(`${path}.tmp`, 'what a killed run left, longer than the new text');
  await replaceDurably(path, 'first', { mode: 0o644 });
  assert.equal(await modeOf(path), 0o644);
  await assert.rejects(replaceDurably(path, failing()), /The source failed/);
  assert.equal(await readFile(path, 'utf8'), 'first');
  await writeFile(`${path}.tmp`, 'what a killed run left');
  replaceDurablySync(path, 'second');
  assert.equal(await readFile(path, 'utf8'), 'second');
  assert.equal(await modeOf(path), 0o600);
  assert.deepEqual(await readdir(root), ['file']);
});

test('an entry is replaced in the directory that is open, whatever has its path now', async (t) => {
  const root = await directoryOf(t);
  const path = join(root, 'held');
  await mkdir(path);
  using held = OpenDirectory.open(path);
  using above = OpenDirectory.open(root);
  await above.rename('held', above, 'elsewhere');
  await mkdir(path);
  await replaceDurablyIn(held, 'note', 'text');
  assert.equal(await readFile(join(root, 'elsewhere/note'), 'utf8'), 'text');
  assert.deepEqual(await readdir(path), []);
});

test('the bytes are synced before a name leads to them, and the name afterwards', async (t) => {
  const root = await directoryOf(t);
  const at = (name: string): string => join(root, name);
  const bytes = [Buffer.from('on'), Buffer.from('e')];
  assert.deepEqual(await syncsOf(() => createDurably(at('a'), bytes)), [
    { file: 'a', text: 'one' },
    { directory: ['a'] },
  ]);
  assert.deepEqual(await syncsOf(() => createDurably(at('b'), bytes, { syncParent: false })), [
    { file: 'b', text: 'one' },
  ]);
  assert.deepEqual(await syncsOf(() => replaceDurably(at('a'), 'two')), [
    { file: 'a.tmp', text: 'two' },
    { directory: ['a', 'b'] },
  ]);
  using held = OpenDirectory.open(root);
  assert.deepEqual(await syncsOf(() => replaceDurablyIn(held, 'c', 'two')), [
    { file: 'c.tmp', text: 'two' },
    { directory: ['a', 'b', 'c'] },
  ]);
  assert.deepEqual(await syncsOf(() => publishDurably(at('d'), bytes, { signal })), [
    { file: 'd-tmp-*', text: 'one' },
    { directory: ['a', 'b', 'c', 'd'] },
  ]);
  assert.deepEqual(await syncsOf(() => publishDurably(at('e'), bytes, { signal, durable: false })), []);
  const replaced = await syncsOf(() => {
    replaceDurablySync(at('a'), 'three');
    return Promise.resolve();
  });
  assert.deepEqual(replaced, [{ file: 'a.tmp', text: 'three' }]);
});

test('a new file whose directory cannot be synced is removed, and an old one is not', async (t) => {
  const root = await directoryOf(t);
  const path = join(root, 'file');
  const disk = { code: 'EIO' };
  await whileDirectoriesFail(async () => {
    await assert.rejects(createDurably(path, 'one'), disk);
    assert.deepEqual(await readdir(root), []);
    await assert.rejects(publishDurably(path, [Buffer.from('one')], { signal }), disk);
    assert.deepEqual(await readdir(root), []);
  });
  await createDurably(path, 'one');
  await whileDirectoriesFail(async () => {
    await assert.rejects(createDurably(path, 'two'), { code: 'EEXIST' });
    await assert.rejects(replaceDurably(path, 'two'), disk);
  });
  assert.deepEqual(await readdir(root), ['file']);
});

test('a directory with the name of the temporary file is removed where the directory is private', async (t) => {
  const root = await directoryOf(t);
  using held = OpenDirectory.open(root);
  await mkdir(join(root, 'note.tmp/inner'), { recursive: true });
  await replaceDurablyIn(held, 'note', 'text');
  assert.deepEqual(await readdir(root), ['note']);
  assert.equal(await readFile(join(root, 'note'), 'utf8'), 'text');
});

test('what cannot be put in place leaves no temporary file', async (t) => {
  const root = await directoryOf(t);
  await mkdir(join(root, 'directory'));
  await assert.rejects(replaceDurably(join(root, 'directory'), 'text'), { code: 'EISDIR' });
  assert.throws(() => replaceDurablySync(join(root, 'directory'), 'text'), { code: 'EISDIR' });
  assert.deepEqual(await readdir(root), ['directory']);
});
