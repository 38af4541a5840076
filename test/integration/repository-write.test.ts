import assert from 'node:assert/strict';
import { readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { PublishedSnapshot } from '../../src/model/snapshot.ts';
import { attributes, collect, label, never, seededBytes } from '../fixtures/archives.ts';
import { campaignSeed } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { publishSamples, RepositoryDirectory, type Sample } from '../fixtures/repositories.ts';
import { newestRestic, stockRestics, systemRestic, type StockRestic } from '../fixtures/restic.ts';

const seed = campaignSeed;
const text = (lines: number): Buffer =>
  Buffer.from(Array.from({ length: lines }, (_, i) => `${seed} line ${i}: ${(i * i) % 8191}\n`).join(''));

/** Around the limits of every way of cutting, and what is hard to name. */
const samples: readonly Sample[] = [
  { path: 'empty', content: Buffer.alloc(0), chunking: 'small' },
  { path: 'one', content: Buffer.of(7), chunking: 'stream' },
  ...[-1, 0, 1].map((by) => ({
    path: `pages/64K${by}`,
    content: seededBytes(seed, 65_536 + by),
    chunking: 'pages' as const,
  })),
  ...[-1, 0, 1].map((by) => ({
    path: `large/8M${by}`,
    content: seededBytes(seed + 1, 8_388_608 + by),
    chunking: 'large' as const,
  })),
  { path: 'postgres/random', content: seededBytes(seed + 2, 5_000_003), chunking: 'stream' },
  { path: 'postgres/text', content: text(250_000), chunking: 'stream' },
  { path: 'config/text', content: text(60_000), chunking: 'small' },
  { path: 'zeros', content: Buffer.alloc(3_000_000), chunking: 'pages' },
  { path: 'names/quote"back\\slash', content: Buffer.from('a'), chunking: 'small' },
  { path: 'names/new\nline\ttab <&>', content: Buffer.from('b'), chunking: 'small' },
  { path: 'names/Grüße 日本 🎉\u200b\u2028', content: Buffer.from('c'), chunking: 'small' },
];

const samplesOnly = (path: string): boolean => samples.some((sample) => sample.path === path);

describe(`what we write (seed ${seed})`, () => {
  let original: RepositoryDirectory;
  let published: PublishedSnapshot;
  before(async () => {
    original = await RepositoryDirectory.created();
    await using store = await original.store();
    published = await publishSamples(store, samples, async (writer) => {
      await writer.directory('bare', attributes({ mode: 0o1750, uid: 12, gid: 34 }));
      await writer.symlink('link', 'pages/64K0', attributes({ mode: 0o777 }));
    });
  });
  after(() => original[Symbol.asyncDispose]());

  test("both the distribution's and the newest stock restic are here", (t) => {
    t.diagnostic(`stock restic ${stockRestics.map(({ version }) => version).join(' and ')}`);
    if (newestRestic !== undefined) assert.ok(newestRestic.isAtLeast(19), newestRestic.version);
    else if (process.env['CI'] === 'true') assert.fail('No newest restic; run: sh scripts/newest-restic.sh');
    else t.skip(`only ${systemRestic.version}; "sh scripts/newest-restic.sh" fetches the newest`);
  });

  for (const stock of stockRestics) {
    describe(`stock restic ${stock.version}`, () => {
      let directory: RepositoryDirectory;
      before(async () => {
        directory = await RepositoryDirectory.copied(original, stock);
      });
      after(() => directory[Symbol.asyncDispose]());

      test('check --read-data finds nothing', () => requireSound(directory));
      test('snapshots shows the stack, the host and the moment of the cut', () =>
        requireSnapshot(directory, published));
      test('ls names every entry', () => requireListing(directory));
      test('dump gives every byte', () => requireDumps(directory));
      test('restore gives every byte, mode, time and link', () => requireRestore(directory));
      test('adds, tags, rewrites, forgets and prunes, and we go on from there', () =>
        changeAndGoOn(directory, published, stock));
    });
  }

  test('we read it ourselves, entries in order and parents first', async () => {
    await using store = await original.store();
    await using source = await store.open('latest', label, testContext());
    for (const { path, content } of samples) {
      assert.ok((await collect(source.open(path, never))).equals(content), JSON.stringify(path));
    }
    const entries = await Array.fromAsync(source.entries('', never));
    const paths = entries.map(({ path }) => path);
    assert.deepEqual(
      paths.filter((path) => !path.includes('/')),
      [
        'bare',
        'config',
        'empty',
        'large',
        'link',
        'manifest.json',
        'names',
        'one',
        'pages',
        'postgres',
        'zeros',
      ],
    );
    for (const [i, path] of paths.entries()) {
      if (path.includes('/')) assert.ok(paths.indexOf(path.slice(0, path.lastIndexOf('/'))) < i, path);
    }
    assert.equal(entries.find(({ path }) => path === 'link')?.linkTarget, 'pages/64K0');
    const below = await Array.fromAsync(source.entries('large', never), ({ path }) => path);
    assert.deepEqual(below, ['large', 'large/8M-1', 'large/8M0', 'large/8M1']);
    assert.deepEqual(await Array.fromAsync(source.entries('nowhere', never)), []);
    assert.equal((await source.manifest(never)).components[0]?.artifacts.length, samples.length);
  });
});

async function requireSound(directory: RepositoryDirectory): Promise<void> {
  assert.match((await directory.restic(['check', '--read-data'])).toString(), /no errors were found/);
}

async function requireSnapshot(directory: RepositoryDirectory, published: PublishedSnapshot): Promise<void> {
  const output = (await directory.restic(['snapshots', '--json'])).toString();
  const [snapshot, ...others] = JSON.parse(output) as Record<string, unknown>[];
  assert.equal(others.length, 0);
  assert.equal(snapshot?.['id'], published.summary.id);
  assert.equal(snapshot['time'], '2026-11-24T00:00:00Z');
  assert.deepEqual(snapshot['paths'], ['/tars/lab']);
  assert.deepEqual(snapshot['tags'], ['tars']);
  assert.equal(snapshot['hostname'], 'box');
  assert.equal(snapshot['username'], 'op');
}

async function requireListing(directory: RepositoryDirectory): Promise<void> {
  const lines = (await directory.restic(['ls', '--json', 'latest'])).toString().trim().split('\n').slice(1);
  const listed = lines.map((line) => (JSON.parse(line) as { path: string }).path);
  for (const { path } of samples) assert.ok(listed.includes(`/tars/lab/${path}`), JSON.stringify(path));
  assert.ok(listed.includes('/tars/lab/bare'));
  assert.ok(listed.includes('/tars/lab/manifest.json'));
}

async function requireDumps(directory: RepositoryDirectory): Promise<void> {
  // Each of them waits for its lock most of the time.
  await Promise.all(
    samples.map(async ({ path, content }) => {
      const dumped = await directory.restic(['dump', 'latest', `/tars/lab/${path}`]);
      assert.ok(dumped.equals(content), JSON.stringify(path));
    }),
  );
}

async function requireRestore(directory: RepositoryDirectory): Promise<void> {
  const target = join(directory.root, 'restored');
  await directory.restic(['restore', 'latest', '--target', target]);
  const root = join(target, 'tars/lab');
  for (const { path, content } of samples) {
    const restored = join(root, path);
    assert.ok((await readFile(restored)).equals(content), JSON.stringify(path));
    const { mode, mtimeMs } = await stat(restored);
    assert.equal(mode & 0o7777, 0o600);
    assert.equal(mtimeMs, 1_700_000_000_000);
  }
  assert.equal(await readlink(join(root, 'link')), 'pages/64K0');
  const bare = await stat(join(root, 'bare'));
  assert.equal(bare.mode & 0o7777, 0o1750);
  assert.deepEqual([bare.uid, bare.gid], [12, 34]);
  assert.equal((await readdir(join(root, 'pages'))).length, 3);
}

/** Stock restic works on the repository as on its own; what it left we read, and build on. */
async function changeAndGoOn(
  directory: RepositoryDirectory,
  published: PublishedSnapshot,
  stock: StockRestic,
): Promise<void> {
  const added = join(directory.root, 'added');
  await writeFile(added, text(1000));
  await directory.restic(['backup', '--tag', 'native', added]);
  await directory.restic(['tag', '--add', 'seen', published.summary.id]);
  const dropped = 'pages/64K0';
  // It drops a file from our snapshot, whose trees must be in the form it writes itself.
  if (stock.isAtLeast(15)) {
    await directory.restic(['rewrite', '--forget', '--tag', 'tars', '--exclude', `/tars/lab/${dropped}`]);
  }
  await directory.restic(['forget', '--tag', 'native', '--keep-last', '1', '--keep-tag', 'tars']);
  await directory.restic(['prune', '--max-unused', '0']);
  await requireSound(directory);

  await using store = await directory.store();
  assert.deepEqual((await store.check({ readData: true }, testContext())).findings, []);
  const kept = samples.filter(({ path }) => path !== dropped || !stock.isAtLeast(15));
  {
    await using source = await store.open('latest', label, testContext());
    assert.ok(source.summary.tags.includes('seen'));
    const paths = await Array.fromAsync(source.entries('', never), ({ path }) => path);
    assert.deepEqual(paths.filter(samplesOnly).sort(), kept.map(({ path }) => path).sort());
    for (const { path, content } of kept) {
      assert.ok((await collect(source.open(path, never))).equals(content), JSON.stringify(path));
    }
  }
  const again = await publishSamples(store, kept);
  assert.ok(again.addedBytes < 100_000, `${again.addedBytes} bytes were stored again`);
  await requireSound(directory);
}
