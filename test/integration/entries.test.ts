import assert from 'node:assert/strict';
import { execa } from 'execa';
import { lstat, mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openArchive, verifyArchive } from '../../src/archive/read.ts';
import { createArchiveDestination } from '../../src/archive/write.ts';
import { encodeLossless } from '../../src/model/byte-text.ts';
import type { Manifest, ManifestArtifact } from '../../src/model/manifest.ts';
import type { ArtifactAttributes, ArtifactEntry, FileIdentity } from '../../src/ports/artifacts.ts';
import type { SnapshotWriter } from '../../src/ports/snapshot-store.ts';
import {
  attributes,
  bytesOf,
  collect,
  label,
  manifestOf,
  never,
  writeOptions,
} from '../fixtures/archives.ts';
import { testContext } from '../fixtures/context.ts';
import { RepositoryDirectory } from '../fixtures/repositories.ts';
import { newestRestic, systemRestic } from '../fixtures/restic.ts';

const isRoot = process.getuid?.() === 0;
const skip = isRoot ? false : 'devices and owners need root';
const ctx = testContext();

const text = Buffer.from('a file with two names');
const extended = [
  { name: 'user.<b>=%', value: Buffer.of(0, 255, 10) },
  { name: 'user.empty', value: Buffer.alloc(0) },
];
const common = attributes({ mode: 0o640, uid: 7, gid: 8, mtimeNs: -1_500_000_001n });
const withExtended: ArtifactAttributes = { ...common, extended };
const badName = 'store/na\udcffme';
const linked: FileIdentity = {
  sizeBytes: text.length,
  mtimeNs: common.mtimeNs,
  ctimeNs: 5n,
  inode: 77n,
  deviceId: 9n,
  links: 2,
};

/** One entry of every kind; the file's second name comes when the directory of the first is finished. */
async function writeAll(writer: SnapshotWriter): Promise<readonly ManifestArtifact[]> {
  await writer.directory('store', attributes({ mode: 0o755 }));
  await writer.directory('store/dir', withExtended);
  const options = { ...writeOptions(text.length), attributes: withExtended, identity: linked };
  const first = await writer.write('store/dir/first', bytesOf(text), options);
  await writer.finish('store/dir');
  await writer.special('store/fifo', { type: 'fifo' }, common);
  const bad = await writer.write(badName, bytesOf(text), { ...writeOptions(), attributes: common });
  await writer.special('store/null', { type: 'character-device', device: 0x103n }, common);
  await writer.special('store/disk', { type: 'block-device', device: 0x1_07c8n }, common);
  const second = await writer.link('store/second', 'store/dir/first', linked);
  await writer.special('store/socket', { type: 'socket' }, common);
  await writer.symlink('store/symlink', 'to\udcfe', attributes({ mode: 0o777 }));
  assert.deepEqual({ ...second, path: first.path }, first);
  return [first, bad, second];
}

const kinds: readonly (Partial<ArtifactEntry> & { readonly path: string })[] = [
  { path: 'store', type: 'directory' },
  { path: 'store/dir', type: 'directory', attributes: withExtended },
  { path: 'store/dir/first', type: 'file', attributes: withExtended, sizeBytes: text.length },
  { path: 'store/disk', type: 'block-device', device: 0x1_07c8n, attributes: common },
  { path: 'store/fifo', type: 'fifo', attributes: common },
  { path: badName, type: 'file', attributes: common },
  { path: 'store/null', type: 'character-device', device: 0x103n, attributes: common },
  { path: 'store/second', type: 'file', attributes: withExtended, sizeBytes: text.length },
  { path: 'store/socket', type: 'socket', attributes: common },
  { path: 'store/symlink', type: 'symlink', linkTarget: 'to\udcfe' },
];

function requireEntries(entries: readonly ArtifactEntry[], expected: typeof kinds): void {
  assert.deepEqual(
    entries.map(({ path }) => path),
    expected.map(({ path }) => path),
  );
  for (const [i, kind] of expected.entries()) {
    const found = entries[i] as Readonly<Record<string, unknown>> | undefined;
    for (const [key, value] of Object.entries(kind))
      assert.deepEqual(found?.[key], value, `${kind.path} ${key}`);
  }
  const groups = new Map(entries.map(({ path, linkGroup }) => [path, linkGroup]));
  const group = groups.get('store/second');
  assert.ok(group !== undefined);
  assert.deepEqual(
    [...groups].filter(([, each]) => each !== undefined),
    ['store/dir/first', 'store/second'].map((path) => [path, group]),
  );
}

/** Of a snapshot behind that of {@link manifestOf}. */
function laterOf(artifacts: readonly ManifestArtifact[]): Manifest {
  return { ...manifestOf(artifacts), time: '2026-11-25T00:00:00.000Z' };
}

/** What a program that is not ours made of it, as the system sees it. */
async function requireRestored(store: string): Promise<void> {
  const at = (name: string): Buffer => encodeLossless(`${store}/${name}`);
  const [first, second] = [
    await lstat(at('dir/first'), { bigint: true }),
    await lstat(at('second'), { bigint: true }),
  ];
  assert.equal(first.ino, second.ino);
  assert.equal(first.mtimeNs, common.mtimeNs);
  assert.deepEqual([first.uid, first.gid, Number(first.mode & 0o7777n)], [7n, 8n, 0o640]);
  assert.ok((await lstat(at('fifo'))).isFIFO());
  assert.ok((await lstat(at('null'))).isCharacterDevice());
  assert.equal((await lstat(at('null'))).rdev, 0x103);
  assert.ok((await lstat(at('disk'))).isBlockDevice());
  assert.equal((await lstat(at('disk'))).rdev, 0x1_07c8);
  assert.deepEqual(await readlink(at('symlink'), 'buffer'), Buffer.from([0x74, 0x6f, 0xfe]));
  assert.ok((await lstat(at('na\udcffme'))).isFile());
  for (const name of ['dir', 'second']) {
    const { stdout } = await execa('getfattr', ['-d', '-e', 'hex', '--absolute-names', `${store}/${name}`]);
    assert.deepEqual(stdout.split('\n').slice(1, 3), ['user.<b>\\075%=0x00ff0a', 'user.empty=0x']);
  }
}

describe('every kind of entry', { skip }, () => {
  let root: string;
  let repository: RepositoryDirectory;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'tars-entries-'));
    repository = await RepositoryDirectory.created(newestRestic ?? systemRestic);
    await using store = await repository.store();
    await using writer = await store.begin(label, ctx);
    await writer.publish(manifestOf(await writeAll(writer)), ctx);
  });
  after(async () => {
    await rm(root, { recursive: true, force: true });
    await repository[Symbol.asyncDispose]();
  });

  test('comes back from a repository', async () => {
    await using store = await repository.store();
    await using source = await store.open('latest', label, ctx);
    requireEntries(await Array.fromAsync(source.entries('store', never)), kinds);
    for (const path of ['store/dir/first', 'store/second', badName]) {
      assert.ok((await collect(source.open(path, never))).equals(text), path);
    }
    assert.deepEqual((await store.check({ readData: true }, ctx)).findings, []);
  });

  test('is restored, checked and kept in a rewrite by stock restic', async () => {
    assert.match((await repository.restic(['check', '--read-data'])).toString(), /no errors were found/);
    const target = join(root, 'restored');
    await repository.restic(['restore', 'latest', '--target', target]);
    await requireRestored(join(target, 'tars/lab/store'));
    await using copy = await RepositoryDirectory.copied(repository, newestRestic ?? systemRestic);
    // It refuses trees that its own encoding would not give the same bytes.
    const rewritten = await copy.restic(['rewrite', '--forget', '--exclude', 'manifest.json', 'latest']);
    assert.match(rewritten.toString(), /modified 1 snapshots/);
    await using store = await copy.store();
    await using source = await store.open('latest', label, ctx);
    requireEntries(await Array.fromAsync(source.entries('store', never)), kinds);
  });

  for (const compression of ['gzip', 'none'] as const) {
    test(`comes back from an archive (${compression}), to tars and to stock tar; sockets stay out`, async () => {
      const outputDir = join(root, `out-${compression}`);
      const scratchDir = join(root, 'scratch');
      {
        const destination = createArchiveDestination({ outputDir, compression, scratchDir });
        await using writer = await destination.begin(label, ctx);
        await writer.publish(
          manifestOf(
            (await writeAll(writer)).map(({ path, sizeBytes, sha256 }) => ({ path, sizeBytes, sha256 })),
          ),
          ctx,
        );
      }
      const file = join(outputDir, (await readdir(outputDir)).find((name) => !name.endsWith('256')) ?? '');
      assert.deepEqual(await verifyArchive(file, { scratchDir }, ctx), []);
      await using source = await openArchive(file, { scratchDir }, ctx);
      const held = kinds.filter(({ type }) => type !== 'socket');
      requireEntries(await Array.fromAsync(source.entries('store', never)), held);
      for (const path of ['store/dir/first', 'store/second', badName]) {
        assert.ok((await collect(source.open(path, never))).equals(text), path);
      }
      const { stderr } = await execa('tar', [
        '-xpf',
        file,
        '--xattrs',
        '--xattrs-include=*',
        // It finds negative times implausible, and sets them.
        '--warning=no-timestamp',
        '--warning=no-unknown-keyword',
        '-C',
        outputDir,
      ]);
      assert.equal(stderr, '');
      await requireRestored(join(outputDir, source.summary.id, 'store'));
    });
  }

  test('a path longer than the system takes at once comes back from both', async () => {
    const outputDir = join(root, 'out-deep');
    const scratchDir = join(root, 'scratch');
    const deep = `store/${`${'d'.repeat(250)}/`.repeat(20)}file`;
    await using other = await RepositoryDirectory.copied(repository, systemRestic);
    await using store = await other.store();
    for (const destination of [
      store,
      createArchiveDestination({ outputDir, compression: 'none', scratchDir }),
    ]) {
      await using writer = await destination.begin(label, ctx);
      const { path, sizeBytes, sha256 } = await writer.write(deep, bytesOf(text), writeOptions());
      await writer.publish(laterOf([{ path, sizeBytes, sha256 }]), ctx);
    }
    const file = join(outputDir, (await readdir(outputDir)).find((name) => name.endsWith('.tar')) ?? '');
    await using archive = await openArchive(file, { scratchDir }, ctx);
    await using snapshot = await store.open('latest', label, ctx);
    for (const source of [archive, snapshot]) {
      const paths = await Array.fromAsync(source.entries('store', never), ({ path }) => path);
      assert.equal(paths.at(-1), deep);
      assert.ok((await collect(source.open(deep, never))).equals(text));
    }
  });

  test('names of attributes that are not UTF-8 survive, also in a rewrite by stock restic', async () => {
    await using other = await RepositoryDirectory.copied(repository, newestRestic ?? systemRestic);
    const strange = { ...common, extended: [{ name: 'user.\udcff', value: Buffer.of(1) }, ...extended] };
    {
      await using store = await other.store();
      await using writer = await store.begin(label, ctx);
      const written = await writer.write('store/f', bytesOf(text), {
        ...writeOptions(),
        attributes: strange,
      });
      await writer.publish(laterOf([written]), ctx);
    }
    await other.restic(['rewrite', '--forget', '--exclude', 'manifest.json', 'latest']);
    await using store = await other.store();
    await using source = await store.open('latest', label, ctx);
    const [entry] = await Array.fromAsync(source.entries('store/f', never));
    assert.deepEqual(entry?.attributes, strange);
  });

  test('what is reused has the attributes of today, and a name that nobody knows is no link', async () => {
    await using other = await RepositoryDirectory.copied(repository, systemRestic);
    await using store = await other.store();
    {
      await using writer = await store.begin(label, ctx);
      const now = { ...common, extended: extended.slice(1) };
      const first = await writer.reuse('store/dir/first', linked, now);
      assert.ok(first);
      const second = await writer.link('store/second', 'store/dir/first', linked);
      const lost = { code: 'artifact-not-found' };
      await assert.rejects(writer.link('store/third', 'store/dir/first', linked), lost);
      await assert.rejects(writer.link('store/third', 'store/never', linked), lost);
      await writer.finish('store/dir');
      await assert.rejects(writer.directory('store/dir/late', common), { code: 'internal' });
      await writer.publish(laterOf([first, second]), ctx);
    }
    await using source = await store.open('latest', label, ctx);
    const entries = await Array.fromAsync(source.entries('store', never));
    for (const path of ['store/dir/first', 'store/second']) {
      const entry = entries.find((each) => each.path === path);
      assert.deepEqual(entry?.attributes.extended, extended.slice(1));
    }
  });
});
