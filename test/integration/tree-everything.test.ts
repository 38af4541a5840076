import assert from 'node:assert/strict';
import { execa } from 'execa';
import { lstatSync } from 'node:fs';
import { lstat, mkdir, mkdtemp, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { encodeLossless } from '../../src/model/byte-text.ts';
import { setTimes } from '../../src/disk/posix/index.ts';
import { campaignSeed, counted } from '../fixtures/campaign.ts';
import { stockRestics } from '../fixtures/restic.ts';
import { differences, picture, requireSamePicture } from '../fixtures/tree-comparison.ts';
import { TreeStack, type RestoredStack } from '../fixtures/tree-stack.ts';
import { plantWildTree, type WildTree } from '../fixtures/wild-tree.ts';

const skip = process.getuid?.() === 0 ? false : 'owners, devices, capabilities and mounts need root';
const root = await realpath(await mkdtemp(join(tmpdir(), 'tars-everything-')));
const tree = join(root, 'tree');
const size = { files: counted(2000, 200_000), directories: counted(400, 40_000), seed: campaignSeed };
const outside = ['socket', 'mounted', 'cache'];

let wild: WildTree;
let stack: TreeStack;
let restored: RestoredStack;

before(async () => {
  if (skip !== false) return;
  await mkdir(join(tree, 'mounted'), { recursive: true });
  await mkdir(join(tree, 'cache'));
  await writeFile(join(tree, 'cache/what is left out'), 'stays');
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', join(tree, 'mounted')]);
  await writeFile(join(tree, 'mounted/file'), 'stays');
  wild = await plantWildTree(tree, size);
  stack = await TreeStack.create({ trees: [{ path: tree, live: tree, exclude: ['/cache/'] }] });
});
after(async () => {
  if (skip === false) {
    wild.server.close();
    await execa('umount', [join(tree, 'mounted')], { reject: false });
    await stack[Symbol.asyncDispose]();
  }
  await rm(root, { recursive: true, force: true });
});

test('a second backup of an unchanged tree reads no file that has a time of the past', { skip }, async () => {
  const captured = await stack.backup();
  assert.equal(captured.outcome, 'captured');
  assert.deepEqual(captured.incomplete, {
    count: 1,
    named: [
      {
        path: join(tree, 'mounted'),
        reason: 'another file system is mounted there; list it under paths: as well, or under exclude:',
      },
    ],
  });
  assert.ok(stack.written.length > size.files / 2);
  // Their list is stored once: files that were captured side by side are in the same order.
  const { artifactList } = await stack.backup();
  assert.ok(artifactList !== undefined);
  assert.equal(artifactList.sha256, captured.artifactList?.sha256);
  // A time that is yet to come proves nothing, and such a file is read each time.
  const again = stack.written.filter((path) => path.startsWith('data/'));
  for (const path of again) {
    const { mtimeMs } = lstatSync(encodeLossless(path.slice('data'.length)));
    assert.ok(mtimeMs > Date.now(), path);
  }
  assert.deepEqual(await stack.verify(), []);
});

test(
  'the tree comes back as it was, to the last attribute, and what is in no snapshot stays',
  { skip },
  async () => {
    const original = await picture(tree, outside);
    const { mtimeNs } = await lstat(tree, { bigint: true });
    await writeFile(join(tree, 'stranger'), 'new since');
    const before = await picture(tree, outside, '%i');
    restored = await stack.restore();
    assert.deepEqual(restored.findings, []);
    assert.ok(
      restored.plan.steps.some((step) => step.includes('cache (excluded), mounted (another file system)')),
    );
    const [name] = (await readdir(root)).filter((each) => each.startsWith('tree.tars-prev-'));
    const previous = join(root, name ?? '', 'tree');
    requireSamePicture(await picture(tree, outside), original, 'restored');
    // Of the previous generation the tree's own directory is another, and what is new since is there.
    const changed = await differences(previous, tree, outside);
    assert.deepEqual(
      changed.filter((line) => !line.endsWith(' ./') && !line.endsWith(' stranger')),
      [],
    );
    assert.deepEqual(await readdir(join(tree, 'mounted')), ['file']);
    assert.deepEqual(await readdir(join(tree, 'cache')), ['what is left out']);
    const sparse = await execa('du', ['-k', join(tree, 'sparse-0')]);
    assert.ok(Number(sparse.stdout.split('\t')[0]) < 1000, sparse.stdout);
    assert.deepEqual(await stack.verify(), []);

    await stack.component.generation(restored.record).undo(stack.ctx);
    requireSamePicture(await picture(tree, outside, '%i'), before, 'undone');
    assert.deepEqual(await readdir(root), ['tree']);
    await rm(join(tree, 'stranger'));
    setTimes(tree, mtimeNs, mtimeNs);
  },
);

for (const stock of stockRestics) {
  test(`restic ${stock.version} restores the same from our snapshot`, { skip }, async () => {
    const target = join(root, `restic-${stock.version}`);
    await stack.repository.restic(['restore', 'latest', '--target', target], { stock });
    const { stdout } = await execa('find', [target, '-type', 'd', '-path', `*/data${tree}`]);
    const changed = await differences(tree, stdout, outside);
    if (stock.isAtLeast(17)) {
      assert.deepEqual(changed, []);
      requireSamePicture(await picture(stdout, outside), await picture(tree, outside), 'restic');
    } else {
      // It does not know of links that lead to names that are not UTF-8, whoever wrote the snapshot.
      assert.deepEqual(
        changed.filter((line) => !/^cLc\.{8} .* -> .*\\#\d{3}/s.test(line)),
        [],
      );
    }
    await rm(target, { recursive: true });
  });
}
