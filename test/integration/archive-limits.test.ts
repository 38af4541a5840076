import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openArchive } from '../../src/archive/read.ts';
import { createArchiveDestination } from '../../src/archive/write.ts';
import type { Bytes } from '../../src/ports/artifacts.ts';
import { label, manifestOf, seededBytes, writeOptions } from '../fixtures/archives.ts';
import { testContext } from '../fixtures/context.ts';

const mib = 1 << 20;

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-limits-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

test('300 MB pass through writing, opening and reading with bounded memory', async () => {
  const totalBytes = 300 * mib;
  const child = fileURLToPath(new URL('../fixtures/archive-memory-child.ts', import.meta.url));
  const { stdout } = await execa(process.execPath, [child, root, String(totalBytes)]);
  const { readBytes, peakBytes } = JSON.parse(stdout) as { readBytes: number; peakBytes: number };
  assert.equal(readBytes, totalBytes);
  assert.ok(peakBytes < 300 * mib, `peak of ${peakBytes} bytes`);
});

async function* noise(sizeBytes: number): Bytes {
  for (let at = 0; at < sizeBytes; at += mib) yield await Promise.resolve(seededBytes(at, mib));
}

/** A file system of that size, or undefined when this user may not mount one (the test is skipped then). */
async function smallDisk(
  t: TestContext,
  sizeMib: number,
): Promise<(AsyncDisposable & { readonly path: string }) | undefined> {
  const path = join(root, 'disk');
  await mkdir(path);
  const options = ['-t', 'tmpfs', '-o', `size=${sizeMib}m`];
  const { failed } = await execa('mount', [...options, 'tmpfs', path], { reject: false });
  if (failed) {
    t.skip('mounting a small tmpfs needs root');
    return undefined;
  }
  return { path, [Symbol.asyncDispose]: () => execa('umount', [path]).then(() => undefined) };
}

test('a full output disk is no-space, ends the archive and leaves nothing', async (t) => {
  await using disk = await smallDisk(t, 8);
  if (disk === undefined) return;
  const outputDir = disk.path;
  const scratchDir = join(root, 'scratch');
  const destination = createArchiveDestination({ outputDir, compression: 'none', scratchDir });
  const writer = await destination.begin(label, testContext());
  const small = await writer.write('store/small', noise(mib), writeOptions());
  const full = { code: 'no-space', message: /Cannot write .*partial/ };
  await assert.rejects(writer.write('store/big', noise(20 * mib), writeOptions(20 * mib)), full);
  await assert.rejects(writer.write('store/later', noise(mib), writeOptions(mib)), full);
  await assert.rejects(writer.publish(manifestOf([small]), testContext()), full);
  await writer[Symbol.asyncDispose]();
  assert.deepEqual(await readdir(outputDir), []);
  assert.deepEqual(await readdir(scratchDir), []);
});

test('a scratch directory that would fill up is no-space before it does, for writing and for opening', async (t) => {
  await using disk = await smallDisk(t, 50);
  if (disk === undefined) return;
  const scratchDir = disk.path;
  const outputDir = join(root, 'out');
  const destination = createArchiveDestination({ outputDir, compression: 'zstd', scratchDir });
  const writer = await destination.begin(label, testContext());
  const full = { code: 'no-space', message: /Not enough space in the scratch directory/ };
  await assert.rejects(writer.write('store/unknown', noise(60 * mib), writeOptions()), full);
  const known = await writer.write('store/known', noise(60 * mib), writeOptions(60 * mib));
  await writer.publish(manifestOf([known]), testContext());
  await writer[Symbol.asyncDispose]();
  const file = join(outputDir, (await readdir(outputDir))[0] ?? '');
  await assert.rejects(openArchive(file, { scratchDir }, testContext()), full);
  assert.deepEqual(await readdir(scratchDir), []);
});
