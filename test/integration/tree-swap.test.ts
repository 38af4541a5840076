import assert from 'node:assert/strict';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { execa } from 'execa';
import { directorySwaps, stageBeside, swapPaths } from '../../src/components/paths/path-swap.ts';
import { counted } from '../fixtures/campaign.ts';
import { TreeStack } from '../fixtures/tree-stack.ts';

const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-swap-')));
after(() => rm(root, { recursive: true, force: true }));

/** Content of files by path, and time and mode of directories. */
async function picture(directory: string): Promise<Record<string, string>> {
  const { stdout } = await execa('find', ['.', '-printf', '%P %y %m %T@ %l\n'], { cwd: directory });
  const { stdout: files } = await execa('find', ['.', '-type', 'f'], { cwd: directory });
  const contents = await Promise.all(
    files
      .split('\n')
      .filter((path) => path !== '')
      .map(async (path) => [path, await readFile(join(directory, path), 'utf8')] as const),
  );
  return Object.fromEntries([...contents, ['', stdout.split('\n').sort().join('\n')]]);
}

async function write(tree: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(tree, path)), { recursive: true });
    await writeFile(join(tree, path), content);
  }
}

/** A tree with things that stay at several depths, as it was captured and as it is now. */
async function scene(t: TestContext, keepDirectory: boolean) {
  const home = await mkdtemp(join(root, 'scene-'));
  const tree = join(home, 'tree');
  await write(tree, {
    'a/b/file': 'then',
    'a/b/deep/x.tmp': 'left out',
    'a/gone': 'then',
    index: 'then',
    'media/film': 'two terabytes',
    'only-then/file': 'then',
  });
  await chmod(join(tree, 'a'), 0o750);
  await utimes(join(tree, 'a'), 1000, 1000);
  const stack = await TreeStack.create({
    keepDirectory,
    trees: [{ path: tree, live: tree, exclude: ['/media', '*.tmp'] }],
  });
  t.after(() => stack[Symbol.asyncDispose]());
  await stack.backup();
  await rm(join(tree, 'a/gone'));
  await rm(join(tree, 'only-then'), { recursive: true });
  await write(tree, {
    'a/b/file': 'now',
    'a/b/new': 'now',
    index: 'now',
    'new/y.tmp': 'left out',
    'new/z': 'now',
  });
  await chmod(join(tree, 'a'), 0o700);
  return { home, tree, stack };
}

const restoredFiles = {
  './a/b/file': 'then',
  './a/b/deep/x.tmp': 'left out',
  './a/gone': 'then',
  './index': 'then',
  './media/film': 'two terabytes',
  './new/y.tmp': 'left out',
  './only-then/file': 'then',
};

for (const keepDirectory of [false, true]) {
  const mode = keepDirectory ? 'a directory that stays itself' : 'a directory of its own';
  test(`${mode}: what is excluded stays, the plan names it, and going back brings everything back`, async (t) => {
    const { home, tree, stack } = await scene(t, keepDirectory);
    const now = await picture(tree);
    const { plan, record } = await stack.restore();
    const steps = plan.steps.join('\n');
    assert.match(steps, /Also move aside 3 entries of .*tree that the snapshot does not hold/);
    assert.match(steps, /Leave in place in .*tree: .*media \(excluded\)/);
    const { '': attributes, ...files } = await picture(tree);
    const visible = Object.entries(files).filter(([path]) => !path.includes('.tars-'));
    assert.deepEqual(Object.fromEntries(visible), restoredFiles);
    assert.match(attributes ?? '', /^a d 750 1000\.0{10} $/m);

    const generation = stack.component.generation(record);
    // As the start of many a container does: it makes all in its volume the service's own.
    const previous = (await readdir(home, { recursive: true })).find((path) => /\.tars-prev-\w+$/.test(path));
    await chmod(join(home, previous ?? ''), 0o777);
    await generation.undo(stack.ctx);
    assert.deepEqual(await picture(tree), now);
    await generation.undo(stack.ctx);
    assert.deepEqual(await picture(tree), now);
    assert.deepEqual(await readdir(home), ['tree']);

    const second = await stack.restore();
    for (const line of second.record.wayBack) await execa('sh', ['-c', line]);
    const back = Object.entries(await picture(tree)).filter(
      ([path]) => path !== '' && !path.includes('.tars-'),
    );
    const nowFiles = Object.entries(now).filter(([path]) => path !== '');
    assert.deepEqual(Object.fromEntries(back), Object.fromEntries(nowFiles));

    const third = await stack.restore();
    await stack.component.generation(third.record).discardPrevious(stack.ctx);
    await stack.component.generation(second.record).discardPrevious(stack.ctx);
    const { '': _, ...kept } = await picture(tree);
    assert.deepEqual(kept, restoredFiles);
    assert.deepEqual(await readdir(home), ['tree']);
  });

  test(`${mode}: cut off before any of its moves, and once more on the way back, it is undone`, async (t) => {
    const { home, tree, stack } = await scene(t, keepDirectory);
    const now = await picture(tree);
    const whole = await stack.stage();
    const moves = await movesOf(() => whole.staged.swap(stack.ctx));
    const moveBack = await movesOf(() => stack.component.generation(whole.record).undo(stack.ctx));
    assert.ok(moves > 10 && moveBack > 10, `${moves} ${moveBack}`);
    const step = Math.ceil(moves / counted(5, moves));
    for (let at = 1; at <= moves; at += step) {
      const { record, staged, restoreId } = await stack.stage();
      await assert.rejects(
        diesAt(at, () => staged.swap(stack.ctx)),
        /The process is dead/,
      );
      const generation = stack.component.generation(record);
      await diesAt(1 + ((at * 7) % moveBack), () => generation.undo(stack.ctx)).catch(() => undefined);
      await generation.undo(stack.ctx);
      await stack.component.removeStaged(restoreId, stack.ctx);
      assert.deepEqual(await picture(tree), now, `cut off before move ${at} of ${moves}`);
      assert.deepEqual(await readdir(home), ['tree'], `cut off before move ${at} of ${moves}`);
    }
  });
}

/** How many calls that move or remove something the work makes. */
function movesOf(work: () => Promise<void>): Promise<number> {
  return counting(Infinity, work);
}

/** From the given call on every one fails, as if the process had been killed. */
function diesAt(at: number, work: () => Promise<void>): Promise<number> {
  return counting(at, work);
}

async function counting(at: number, work: () => Promise<void>): Promise<number> {
  const files = createRequire(import.meta.url)('node:fs/promises') as object;
  let calls = 0;
  const originals = ['rename', 'mkdir', 'rmdir', 'unlink', 'open'].map((name) => {
    const original = Reflect.get(files, name) as (...args: unknown[]) => Promise<unknown>;
    Reflect.set(files, name, (...args: unknown[]) => {
      calls += 1;
      return calls >= at ? Promise.reject(new Error('The process is dead')) : original(...args);
    });
    return { name, original };
  });
  syncBuiltinESMExports();
  try {
    await work();
    return calls;
  } finally {
    for (const { name, original } of originals) Reflect.set(files, name, original);
    syncBuiltinESMExports();
  }
}

test('what would have to stay in a file of the snapshot refuses the restore, and nothing has changed', async (t) => {
  const { home, tree, stack } = await scene(t, false);
  await rm(join(tree, 'a/b'), { recursive: true });
  await stack.backup();
  await rm(join(tree, 'index'));
  await write(tree, { 'index/kept.tmp': 'stays' });
  const before = await picture(tree);
  await assert.rejects(stack.restore(), {
    code: 'restore-refused',
    message:
      /tree\/index is a file in the snapshot, but here it is a directory that holds something that must stay/,
  });
  assert.deepEqual(await picture(tree), before);
  assert.deepEqual(await readdir(home), ['tree']);
});

test('a path that is kept out is neither captured nor replaced nor deleted', async () => {
  const home = await mkdtemp(join(root, 'keep-out-'));
  const tree = join(home, 'tree');
  await write(tree, { 'data/file': 'then', 'backup/repository/config': 'keys' });
  const trees = [{ path: tree, live: tree, exclude: [] }];
  await using stack = await TreeStack.create({ trees });
  await stack.backup();
  const careful = stack.with({ trees, keepOut: [join(tree, 'backup/repository')] });
  await write(tree, { 'data/file': 'now', 'backup/repository/config': 'newer keys' });
  const { plan, record } = await careful.restore();
  assert.match(plan.steps.join('\n'), /backup\/repository \(belongs to tars or to another component\)/);
  await careful.component.generation(record).discardPrevious(careful.ctx);
  assert.equal(await readFile(join(tree, 'backup/repository/config'), 'utf8'), 'newer keys');
  assert.equal(await readFile(join(tree, 'data/file'), 'utf8'), 'then');
  const captured = await careful.backup();
  assert.deepEqual(
    captured.artifacts.map(({ path }) => path),
    [`data${tree}/data/file`],
  );
  for (const keepOut of [tree, home]) {
    const refused = stack.with({ trees, keepOut: [keepOut] });
    await assert.rejects(refused.backup(), /no component may touch that/);
    await assert.rejects(refused.plan(), /no component may touch that/);
  }
});

test('a tree that lies in another of the same component is its own', async () => {
  const home = await mkdtemp(join(root, 'nested-'));
  const [outer, inner] = [join(home, 'outer'), join(home, 'outer/inner')];
  await write(outer, { file: 'then', 'inner/file': 'then' });
  await using stack = await TreeStack.create({
    trees: [outer, inner].map((path) => ({ path, live: path, exclude: [] })),
  });
  const { artifacts } = await stack.backup();
  assert.equal(artifacts.length, 2);
  await write(outer, { file: 'now', 'inner/file': 'now' });
  const now = await picture(inner);
  const { record } = await stack.restore();
  assert.equal(await readFile(join(outer, 'file'), 'utf8'), 'then');
  assert.equal(await readFile(join(inner, 'file'), 'utf8'), 'then');
  await stack.component.generation(record).undo(stack.ctx);
  assert.deepEqual(await picture(inner), now);
  assert.equal(await readFile(join(outer, 'file'), 'utf8'), 'now');
  assert.deepEqual(await readdir(outer), ['file', 'inner']);
});

for (const keepDirectory of [false, true]) {
  const mode = keepDirectory ? 'entries' : 'rename';
  test(`a restore that 1.0 left behind is undone and tidied up (${mode})`, async () => {
    const home = await mkdtemp(join(root, 'former-'));
    const tree = join(home, 'tree');
    await using stack = await TreeStack.create({ trees: [{ path: tree, live: tree, exclude: [] }] });
    for (const ending of ['undo', 'discardPrevious'] as const) {
      await rm(tree, { recursive: true, force: true });
      await write(tree, { kept: 'now', other: 'now' });
      const stage = await stageBeside(tree, ending === 'undo' ? 'r1' : 'r2', keepDirectory);
      await writeFile(join(stage.stagedDir, 'kept'), 'then');
      const swaps = await directorySwaps(tree, stage);
      const after = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 1000 };
      const details = { trees: [{ live: tree, stage, swaps, before: after, after }] };
      await swapPaths(swaps);
      assert.equal(await readFile(join(tree, 'kept'), 'utf8'), 'then');
      const record = { component: 'data', kind: 'files', wayBack: [], details };
      await stack.component.generation(record)[ending](stack.ctx);
      assert.equal(await readFile(join(tree, 'kept'), 'utf8'), ending === 'undo' ? 'now' : 'then');
      assert.deepEqual(await readdir(tree), ending === 'undo' ? ['kept', 'other'] : ['kept']);
      assert.deepEqual(await readdir(home), ['tree']);
    }
  });
}

test('a snapshot of other directories is refused, not called restored, and verify says that nothing was compared', async () => {
  const home = await mkdtemp(join(root, 'elsewhere-'));
  const [then, now] = [join(home, 'then'), join(home, 'now')];
  await write(home, { 'then/file': 'then', 'now/file': 'now' });
  await using stack = await TreeStack.create({ trees: [{ path: then, live: then, exclude: [] }] });
  await stack.backup();
  const moved = stack.with({ trees: [{ path: now, live: now, exclude: [] }] });
  await assert.rejects(moved.restore(), {
    code: 'restore-refused',
    message: `Nothing of data can be restored: the snapshot holds ${then}, but data in tars.yaml names other directories`,
  });
  const findings = await moved.verify();
  assert.deepEqual(
    findings.map(({ severity, code }) => `${severity} ${code}`),
    ['error directory-not-configured'],
  );
  const both = stack.with({ trees: [then, now].map((path) => ({ path, live: path, exclude: [] })) });
  assert.deepEqual(await both.verify(), []);
});

test('what came into a directory that is excluded by now is in no snapshot, and stays', async () => {
  const home = await mkdtemp(join(root, 'excluded-since-'));
  const tree = join(home, 'tree');
  await write(tree, { file: 'then', 'media/a': 'then', 'media/deep/b': 'then' });
  const trees = [{ path: tree, live: tree, exclude: [] }];
  await using stack = await TreeStack.create({ trees });
  await stack.backup();
  await write(tree, { 'media/a': 'now', 'media/late': 'the only copy', 'media/deep/late': 'the only copy' });
  const now = await picture(tree);
  const later = stack.with({ trees: [{ path: tree, live: tree, exclude: ['media/'] }] });
  const undone = await later.restore();
  await later.component.generation(undone.record).undo(later.ctx);
  assert.deepEqual(await picture(tree), now);
  const { plan, record } = await later.restore();
  assert.match(plan.steps.join('\n'), /Leave in place in .*tree: media \(excluded/);
  await later.component.generation(record).discardPrevious(later.ctx);
  const { '': _, ...files } = await picture(tree);
  assert.deepEqual(files, {
    './file': 'then',
    './media/a': 'then',
    './media/deep/b': 'then',
    './media/deep/late': 'the only copy',
    './media/late': 'the only copy',
  });
});

test('what an earlier restore left in a tree is named, and neither moved nor deleted', async () => {
  const home = await mkdtemp(join(root, 'left-'));
  const tree = join(home, 'tree');
  const left = {
    './top.tars-prev-0a1b2c3d': 'the only copy',
    './sub/x.tars-prev-0a1b2c3d/f': 'the only copy',
  };
  await write(tree, { file: 'then', 'sub/file': 'then', ...left });
  await using stack = await TreeStack.create({ trees: [{ path: tree, live: tree, exclude: [] }] });
  await stack.backup();
  assert.match(
    stack.warnings.join('\n'),
    /sub\/x\.tars-prev-0a1b2c3d, top\.tars-prev-0a1b2c3d in .*is not captured/,
  );
  await write(tree, { file: 'now', 'sub/file': 'now' });
  const { plan, record } = await stack.restore();
  assert.match(
    plan.steps.join('\n'),
    /Leave in place .*x\.tars-prev-0a1b2c3d \(left by an earlier restore\)/,
  );
  await stack.component.generation(record).discardPrevious(stack.ctx);
  const { '': _, ...files } = await picture(tree);
  assert.deepEqual(files, { './file': 'then', './sub/file': 'then', ...left });
});

test('a directory with the longest name there can be is restored, undone and tidied up', async () => {
  const home = await mkdtemp(join(root, 'long-'));
  const trees = ['a', 'b'].map((end) => join(home, `${'ä'.repeat(127)}${end}`));
  for (const tree of trees) await write(tree, { file: 'then' });
  await using stack = await TreeStack.create({
    trees: trees.map((path) => ({ path, live: path, exclude: [] })),
  });
  await stack.backup();
  for (const tree of trees) await write(tree, { file: 'now' });
  const undone = await stack.restore();
  const named = await stack.component.leftovers?.(stack.ctx);
  assert.equal(named?.length, 2);
  await stack.component.generation(undone.record).undo(stack.ctx);
  const { record } = await stack.restore();
  for (const tree of trees) assert.equal(await readFile(join(tree, 'file'), 'utf8'), 'then');
  await stack.component.generation(record).discardPrevious(stack.ctx);
  assert.equal((await readdir(home)).length, 2);
});

test('a directory that its owner may not write in is exchanged, undone and keeps its mode', async () => {
  const home = await mkdtemp(join(root, 'read-only-'));
  const tree = join(home, 'tree');
  await write(tree, { 'shut/file': 'then', 'shut/x.tmp': 'stays', 'new/x.tmp': 'stays' });
  await chmod(join(tree, 'shut'), 0o555);
  await using stack = await TreeStack.create({ trees: [{ path: tree, live: tree, exclude: ['*.tmp'] }] });
  const nobody = 65_534;
  const asOwner = async (work: () => Promise<void>): Promise<void> => {
    if (process.getuid?.() !== 0) return work();
    await chmod(root, 0o755);
    await execa('chown', ['-R', `${nobody}`, home]);
    process.seteuid?.(nobody);
    try {
      await work();
    } finally {
      process.seteuid?.(0);
    }
  };
  await asOwner(() => Promise.resolve());
  await stack.backup();
  await rm(join(tree, 'shut/file'));
  await write(tree, { 'shut/file': 'now', 'later/x.tmp': 'stays', 'later/y': 'now' });
  await chmod(join(tree, 'later'), 0o555);
  await asOwner(() => Promise.resolve());
  const now = await picture(tree);
  const { staged, record } = await stack.stage();
  await asOwner(() => staged.swap(stack.ctx));
  assert.equal(await readFile(join(tree, 'shut/file'), 'utf8'), 'then');
  const { stdout } = await execa('find', [
    tree,
    '-name',
    'shut',
    '-printf',
    '%m',
    '-o',
    '-name',
    'later',
    '-printf',
    '%m',
  ]);
  assert.equal(stdout, '555555');
  await asOwner(() => stack.component.generation(record).undo(stack.ctx));
  assert.deepEqual(await picture(tree), now);
  assert.deepEqual(await readdir(home), ['tree']);
});

test('what lies in the place of a tree and is no directory refuses the restore in words, and stays', async () => {
  const home = await mkdtemp(join(root, 'no-directory-'));
  const tree = join(home, 'tree');
  await write(tree, { file: 'then' });
  await using stack = await TreeStack.create({ trees: [{ path: tree, live: tree, exclude: [] }] });
  await stack.backup();
  await rm(tree, { recursive: true });
  const refused = {
    code: 'restore-refused',
    message: `${tree} is a directory in the snapshot, but here it is a file, or a link that does not lead to a directory`,
  };
  await writeFile(tree, 'a file');
  await assert.rejects(stack.restore(), refused);
  assert.equal(await readFile(tree, 'utf8'), 'a file');
  await rm(tree);
  await symlink(join(home, 'disk'), tree);
  await assert.rejects(stack.restore(), refused);
  assert.deepEqual(await readdir(home), ['tree']);
});
