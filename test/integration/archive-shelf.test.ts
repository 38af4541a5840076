import assert from 'node:assert/strict';
import { countAmounts } from '../../src/composition/index.ts';
import { execa } from 'execa';
import {
  appendFile,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { createArchiveShelf } from '../../src/archive/shelf.ts';
import { createArchiveDestination, type ArchiveCompression } from '../../src/archive/write.ts';
import { TarsError } from '../../src/model/errors.ts';
import type { Manifest } from '../../src/model/manifest.ts';
import { executeForget, planForget, removedBy } from '../../src/operations/retention/forget.ts';
import type { OperationContext } from '../../src/ports/context.ts';
import { bytesOf, label, manifestOf, seededBytes, writeOptions } from '../fixtures/archives.ts';
import { cliPath } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { publishSketch, writeSettings } from '../fixtures/retention.ts';

let root: string;
let outputDir: string;
let warnings: string[];
let ctx: OperationContext;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-shelf-'));
  outputDir = join(root, 'out');
  warnings = [];
  const quiet = testContext();
  ctx = { ...quiet, log: { ...quiet.log, warn: (message) => void warnings.push(message) } };
});
afterEach(() => rm(root, { recursive: true, force: true }));

const destination = (compression: ArchiveCompression) =>
  createArchiveDestination({ outputDir, compression, scratchDir: join(root, 'scratch') });
const keepOne = {
  rules: { last: 1, tags: [] },
  stack: 'lab',
  hostname: 'box',
  allowLast: false,
  allowShrunk: false,
  count: countAmounts,
};
const suffixes: Readonly<Record<ArchiveCompression, string>> = {
  gzip: '.tar.gz',
  zstd: '.tar.zst',
  none: '.tar',
};

/** Archives are named by the second, so each gets a name of its own. */
async function archiveOf(day: number, compression: ArchiveCompression, stack = 'lab'): Promise<string> {
  return (await publishSketch(destination(compression), { day, stack })) + suffixes[compression];
}

test('old archives go with their checksums, whatever their compression, and nothing else does', async () => {
  const old = [await archiveOf(1, 'gzip'), await archiveOf(2, 'zstd'), await archiveOf(3, 'none')];
  const other = await archiveOf(4, 'gzip', 'other');
  const newest = await archiveOf(5, 'zstd');
  // Everything that could be taken for an archive and is none of ours, each older than those.
  const [model = ''] = old;
  const inOut = (name: string): string => join(outputDir, name);
  const alone = async (name: string, make: (path: string) => Promise<unknown>): Promise<string> => {
    await make(inOut(name));
    return name;
  };
  const copyOf = (change: (bytes: Buffer) => Buffer) => async (path: string) =>
    writeFile(path, change(await readFile(inOut(model))));
  const bystanders = [
    await alone('tars-backup-20200101_000000.tar.gz', (path) => symlink(inOut(model), path)),
    await alone('tars-backup-20200101_000001.tar.gz', (path) => copyFile(inOut(model), path)),
    await alone('tars-backup-20200101_000002.tar.gz', (path) => mkdir(path)),
    await alone('tars-backup-20200101_000003.tar.gz', (path) => writeFile(path, '')),
    await alone(
      'tars-backup-20200101_000004.tar.gz',
      copyOf((bytes) => bytes.subarray(0, -9)),
    ),
    await alone(
      'tars-backup-20200101_000005.tar.gz',
      copyOf((bytes) => gzipSync(gunzipSync(bytes))),
    ),
    await alone('tars-backup-20200101_000006.tar.gz', (path) => writeFile(path, seededBytes(1, 3 << 20))),
    await alone('tars-backup-20200101.tar.gz', (path) => copyFile(inOut(model), path)),
    await alone('my-tars-backup-20200101_000000.tar.gz', (path) => copyFile(inOut(model), path)),
    await alone('tars-backup-20200101_000000.tar.gz.old', (path) => copyFile(inOut(model), path)),
    await alone('tars-backup-20200101_000009.tar.gz.sha256', (path) =>
      writeFile(path, 'of one being written'),
    ),
    await alone('notes.txt', (path) => writeFile(path, 'mine')),
  ];
  const shelf = createArchiveShelf(outputDir);
  const plan = await planForget(shelf, keepOne, ctx);
  assert.deepEqual(
    removedBy(plan).map(({ id }) => id),
    old,
  );
  await executeForget(shelf, plan, ctx);
  const expected = [newest, `${newest}.sha256`, other, `${other}.sha256`, ...bystanders];
  assert.deepEqual((await readdir(outputDir)).sort(), expected.sort());
  // Of names that are not like ours nothing is said.
  assert.equal(warnings.length, 7);
  for (const line of warnings) assert.match(line, /^Skipped: .*\/tars-backup-20200101_00000\d\.tar\.gz /);
});

test('an archive whose checksum is of something else is not touched', async () => {
  const [first, second, third] = [
    await archiveOf(1, 'gzip'),
    await archiveOf(2, 'gzip'),
    await archiveOf(3, 'gzip'),
  ];
  const checksumOf = (name: string): string => join(outputDir, `${name}.sha256`);
  await copyFile(checksumOf(second), checksumOf(first));
  await rename(checksumOf(second), join(root, 'elsewhere'));
  await symlink(join(root, 'elsewhere'), checksumOf(second));
  const shelf = createArchiveShelf(outputDir);
  assert.deepEqual(
    (await shelf.list(ctx)).map(({ id }) => id),
    [third],
  );
  assert.equal(warnings.length, 2);
});

test('an archive that changed since the plan is not removed, and none is when one that was to stay is gone', async () => {
  const [first, second] = [await archiveOf(1, 'gzip'), await archiveOf(2, 'gzip')];
  const shelf = createArchiveShelf(outputDir);
  const plan = await planForget(shelf, keepOne, ctx);
  const refused = (error: unknown): boolean => error instanceof TarsError && error.code === 'forget-refused';
  const path = join(outputDir, first);
  const bytes = await readFile(path);
  await appendFile(path, 'more');
  await assert.rejects(executeForget(shelf, plan, ctx), /0 of 1 archives were removed/);
  await writeFile(path, bytes);
  await rm(join(outputDir, second));
  await assert.rejects(executeForget(shelf, plan, ctx), refused);
  assert.ok((await readdir(outputDir)).includes(first));
});

test('manifests are found at the end of archives, however large', async () => {
  for (const compression of ['gzip', 'zstd', 'none'] as const) {
    const directory = destination(compression);
    await using writer = await directory.begin(label, ctx);
    const artifact = await writer.write(
      'store/random',
      bytesOf(seededBytes(7, 300_000)),
      writeOptions(300_000),
    );
    // Hardly compressible: some 700 kB of manifest.
    const reason = seededBytes(9, 500_000).toString('base64');
    const manifest: Manifest = { ...manifestOf([artifact]), notCaptured: [{ subject: 'x', reason }] };
    await writer.publish(manifest, ctx);
    const shelf = createArchiveShelf(outputDir);
    const [found] = (await shelf.list(ctx)).filter(({ id }) => id.endsWith(suffixes[compression]));
    assert.deepEqual(await Array.fromAsync(shelf.readManifests([found?.id ?? ''], ctx)), [manifest]);
  }
  assert.deepEqual(warnings, []);
});

test('an archive whose manifest is not the one its header vouches for is not touched', async () => {
  const path = join(outputDir, await archiveOf(3, 'none'));
  const text = await readFile(path, 'latin1');
  await writeFile(path, text.replaceAll('"2025-11-03', '"2025-11-02'), 'latin1');
  assert.deepEqual(await createArchiveShelf(outputDir).list(ctx), []);
  assert.equal(warnings.length, 1);
});

/** Kills the process right before its n-th unlink. */
const killAtUnlink = (n: number): string =>
  `data:text/javascript,${encodeURIComponent(`
    import { createRequire, syncBuiltinESMExports } from 'node:module';
    const files = createRequire('/')('node:fs/promises');
    const { unlink } = files;
    let left = ${n};
    files.unlink = (path) => (--left === 0 ? process.kill(process.pid, 'SIGKILL') : unlink(path));
    syncBuiltinESMExports();
  `)}`;

test('a forget that is killed at any step leaves archives that are whole, and no checksum alone', async () => {
  const config = await writeSettings(root, { retention: { archives: { keep_last: 1 } } });
  const kept = await archiveOf(9, 'gzip');
  for (let step = 1; step <= 4; step++) {
    await archiveOf(1, 'gzip');
    await archiveOf(2, 'gzip');
    const args = [
      '--import',
      killAtUnlink(step),
      cliPath,
      ...config,
      'forget',
      '--output-dir',
      outputDir,
      '--yes',
    ];
    const { signal } = await execa(process.execPath, args, { reject: false });
    assert.equal(signal, 'SIGKILL');
    const names = await readdir(outputDir);
    const checksums = names.filter((name) => name.endsWith('.sha256'));
    for (const checksum of checksums) await execa('sha256sum', ['-c', checksum], { cwd: outputDir });
    const shelf = createArchiveShelf(outputDir);
    const plan = await planForget(shelf, keepOne, ctx);
    assert.equal(removedBy(plan).length, names.length - checksums.length - 1);
    await executeForget(shelf, plan, ctx);
    assert.deepEqual((await readdir(outputDir)).sort(), [kept, `${kept}.sha256`]);
  }
  assert.deepEqual(warnings, []);
});
