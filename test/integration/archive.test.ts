import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execa } from 'execa';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { openArchive, verifyArchive } from '../../src/archive/read.ts';
import { createArchiveDestination, type ArchiveCompression } from '../../src/archive/write.ts';
import { TarsError } from '../../src/model/errors.ts';
import type { ArtifactEntry } from '../../src/ports/artifacts.ts';
import type { SnapshotWriter } from '../../src/ports/snapshot-store.ts';
import {
  attributes,
  bytesOf,
  collect,
  label,
  manifestOf,
  never,
  seededBytes,
  writeOptions,
} from '../fixtures/archives.ts';
import { testContext } from '../fixtures/context.ts';

let root: string;
let outputDir: string;
let scratchDir: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-archive-'));
  outputDir = join(root, 'out');
  scratchDir = join(root, 'scratch');
});
afterEach(() => rm(root, { recursive: true, force: true }));

const begin = (compression: ArchiveCompression): Promise<SnapshotWriter> =>
  createArchiveDestination({ outputDir, compression, scratchDir }).begin(label, testContext());

async function archiveFile(): Promise<string> {
  const names = (await readdir(outputDir)).filter((name) => /\.tar(\.gz|\.zst)?$/.test(name));
  assert.equal(names.length, 1);
  return join(outputDir, names[0] ?? '');
}

const scratchIsEmpty = async (): Promise<void> => assert.deepEqual(await readdir(scratchDir), []);

const longName = `store/${'deep/'.repeat(60)}${'x'.repeat(120)}`;
const contents: Readonly<Record<string, Buffer>> = {
  'store/empty': Buffer.alloc(0),
  'store/one': Buffer.from('1'),
  'store/block': seededBytes(1, 512),
  'store/big': seededBytes(2, 5_000_001),
  'store/zeros': Buffer.alloc(3_000_000),
  'store/naïve “name” with\nnewline': seededBytes(3, 700),
  [longName]: seededBytes(4, 90),
};

for (const compression of ['gzip', 'zstd', 'none'] as const) {
  test(`${compression}: everything written comes back byte for byte, to tars and to stock tar`, async () => {
    const odd = attributes({ mode: 0o4751, uid: 3_000_000, gid: 12, mtimeNs: 1_700_000_000_123_456_789n });
    const before = attributes({ mtimeNs: -1_500_000_000n });
    const writer = await begin(compression);
    assert.equal(writer.encrypted, false);
    await writer.directory('store/kept empty', odd);
    await writer.symlink('store/link', '../../anywhere', before);
    const artifacts = await Promise.all(
      Object.entries(contents).map(([path, content], index) =>
        writer.write(path, bytesOf(content, 10_000), {
          ...writeOptions(index % 2 === 0 ? undefined : content.length),
          attributes: odd,
        }),
      ),
    );
    const manifest = manifestOf(artifacts);
    const published = await writer.publish(manifest, testContext());
    await writer[Symbol.asyncDispose]();
    await scratchIsEmpty();
    const file = await archiveFile();
    assert.equal(published.addedBytes, (await stat(file)).size);
    assert.equal((await stat(file)).mode & 0o777, 0o600);

    assert.deepEqual(await verifyArchive(file, { scratchDir }, testContext()), []);
    const source = await openArchive(file, { scratchDir }, testContext());
    assert.deepEqual(await source.manifest(never), manifest);
    assert.equal(source.summary.id, basename(file).split('.')[0]);
    const entries = new Map<string, ArtifactEntry>();
    for await (const entry of source.entries('', never)) entries.set(entry.path, entry);
    for (const [path, content] of Object.entries(contents)) {
      assert.ok((await collect(source.open(path, never))).equals(content), path);
      const entry = { path, type: 'file', sizeBytes: content.length, attributes: odd } as const;
      assert.deepEqual(entries.get(path), entry);
    }
    assert.deepEqual(entries.get('store/kept empty')?.attributes, odd);
    assert.equal(entries.get('store/link')?.linkTarget, '../../anywhere');
    assert.deepEqual(entries.get('store/link')?.attributes, before);
    assert.equal([...entries.keys()].at(0), 'manifest.json');
    assert.equal(entries.get('store/deep')?.type, 'directory');
    await assert.rejects(collect(source.open('store/none', never)), { code: 'artifact-not-found' });
    await source[Symbol.asyncDispose]();
    await scratchIsEmpty();

    await execa('sha256sum', ['--strict', '-c', `${basename(file)}.sha256`], { cwd: outputDir });
    const flags = { gzip: '-z', zstd: '--zstd', none: '--no-auto-compress' }[compression];
    const listing = await execa('tar', ['-t', flags, '-f', file, '--quoting-style=escape']);
    assert.equal(listing.stderr, '');
    assert.equal(listing.stdout.split('\n').at(-1), `${source.summary.id}/manifest.json`);
    await execa('tar', ['-x', flags, '-f', file, '-C', root]);
    for (const [path, content] of Object.entries(contents)) {
      const extracted = join(root, source.summary.id, path);
      assert.ok((await readFile(extracted)).equals(content), path);
      assert.equal((await stat(extracted, { bigint: true })).mtimeNs, odd.mtimeNs);
    }
  });
}

test('an archive of another name in the same second, and one never overwrites another', async () => {
  const frozen = { ...testContext(), clock: { ...testContext().clock, now: () => new Date(0) } };
  const beginFrozen = (compression: ArchiveCompression): Promise<SnapshotWriter> =>
    createArchiveDestination({ outputDir, compression, scratchDir }).begin(label, frozen);
  const publish = async (writer: SnapshotWriter): Promise<void> => {
    await writer.publish(manifestOf([]), frozen);
    await writer[Symbol.asyncDispose]();
  };
  for (const writer of [await beginFrozen('none'), await beginFrozen('none')]) await publish(writer);
  // Compressed otherwise it would be another file, and unpack into the same folder.
  await publish(await beginFrozen('gzip'));
  const names = ['0.tar', '1.tar', '2.tar.gz'].map((name) => `tars-backup-19700101_00000${name}`);
  assert.deepEqual(
    await readdir(outputDir),
    names.flatMap((name) => [name, `${name}.sha256`]),
  );
  const late = await beginFrozen('none');
  const foreign = join(outputDir, 'tars-backup-19700101_000003.tar');
  await writeFile(foreign, 'mine');
  await assert.rejects(late.publish(manifestOf([]), frozen), { code: 'storage-exists' });
  await late[Symbol.asyncDispose]();
  assert.equal(await readFile(foreign, 'utf8'), 'mine');
  assert.equal((await readdir(outputDir)).length, 7);
});

for (const compression of ['gzip', 'zstd', 'none'] as const) {
  test(`${compression}: a body that fails leaves the others and no trace of itself`, async () => {
    const failing = async function* (): AsyncIterable<Uint8Array> {
      yield await Promise.resolve(seededBytes(9, 2_000_000));
      throw new TarsError('capture-failed', 'The store went away');
    };
    const writer = await begin(compression);
    const first = await writer.write('store/a', bytesOf(seededBytes(5, 400_000)), writeOptions(400_000));
    const gone = { code: 'capture-failed', message: 'The store went away' };
    await assert.rejects(writer.write('store/known', failing(), writeOptions(4_000_000)), gone);
    await assert.rejects(writer.write('store/unknown', failing(), writeOptions()), gone);
    for (const sizeBytes of [2, 4]) {
      const body = bytesOf(Buffer.from('abc'));
      await assert.rejects(writer.write('store/len', body, writeOptions(sizeBytes)), {
        code: 'capture-failed',
      });
    }
    const scratch = await readdir(scratchDir, { recursive: true });
    assert.deepEqual(
      scratch.filter((name) => !/^tars-run-[^/]*(\/lock|\/archive-[^/]*)?$/.test(name)),
      [],
      'only its own directory in the one of the run',
    );
    const again = await writer.write('store/known', bytesOf(Buffer.from('now')), writeOptions(3));
    await writer.publish(manifestOf([first, again]), testContext());
    await writer[Symbol.asyncDispose]();
    await scratchIsEmpty();
    await using source = await openArchive(await archiveFile(), { scratchDir }, testContext());
    const paths: string[] = [];
    for await (const { path } of source.entries('store', never)) paths.push(path);
    assert.deepEqual(paths, ['store', 'store/a', 'store/known']);
  });
}

test('an abandoned or interrupted archive leaves nothing', async () => {
  const writer = await begin('gzip');
  await writer.write('store/a', bytesOf(Buffer.from('abc')), writeOptions());
  const abort = new AbortController();
  const endless = async function* (): AsyncIterable<Uint8Array> {
    for (let i = 0; ; i++) {
      if (i === 20) abort.abort();
      yield await Promise.resolve(seededBytes(i, 50_000));
    }
  };
  for (const options of [writeOptions(), writeOptions(1e12)]) {
    const write = writer.write('store/endless', endless(), { ...options, signal: abort.signal });
    await assert.rejects(write, { code: 'interrupted' });
  }
  await writer[Symbol.asyncDispose]();
  assert.deepEqual(await readdir(outputDir), []);
  await scratchIsEmpty();
});

test('paths that leave the archive and manifests that lie are refused', async () => {
  await using writer = await begin('none');
  for (const path of ['/etc/passwd', '../up', 'a//b', 'a/./b', '', 'a\0b', 'manifest.json']) {
    await assert.rejects(writer.write(path, bytesOf(Buffer.alloc(0)), writeOptions()), { code: 'internal' });
  }
  const written = await writer.write('store/a', bytesOf(Buffer.from('abc')), writeOptions());
  await assert.rejects(writer.write('store/a', bytesOf(Buffer.from('abc')), writeOptions()), {
    code: 'internal',
  });
  const sha256 = createHash('sha256').update('abd').digest('hex');
  await assert.rejects(writer.publish(manifestOf([{ ...written, sha256 }]), testContext()), {
    code: 'internal',
  });
});
