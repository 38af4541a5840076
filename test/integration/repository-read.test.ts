import assert from 'node:assert/strict';
import { execa } from 'execa';
import { link, lstat, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { TarsError } from '../../src/model/errors.ts';
import type { SnapshotSource } from '../../src/ports/snapshot-store.ts';
import { openRepository } from '../../src/repository/open.ts';
import { loadBlobIndex } from '../../src/repository/blobs/load-index.ts';
import { BlobReader } from '../../src/repository/blobs/blob-reader.ts';
import { decodeTree, encodeTree } from '../../src/repository/format/tree.ts';
import { decodeSnapshot, encodeSnapshot } from '../../src/repository/format/snapshot-file.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { collect, never, seededBytes } from '../fixtures/archives.ts';
import { campaignSeed } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { password, publishSamples, RepositoryDirectory } from '../fixtures/repositories.ts';
import { isCampaign } from '../fixtures/campaign.ts';
import { stockRestics, type StockRestic } from '../fixtures/restic.ts';

const seed = campaignSeed;
const files = new Map<string, Buffer>([
  ['empty', Buffer.alloc(0)],
  ['one', Buffer.of(1)],
  ['random', seededBytes(seed, 6_000_001)],
  ['text', Buffer.from('some text that compresses\n'.repeat(200_000))],
  ['quote"back\\slash', Buffer.from('quote')],
  ['new\nline\tand\x7fdel', Buffer.from('newline')],
  ['Grüße 日本 🎉\u200b\u2028<&>', Buffer.from('unicode')],
  ['sub/deep/file', Buffer.from('deep')],
]);

async function makeTree(root: string, stock: StockRestic): Promise<string> {
  const tree = join(root, 'tree');
  for (const [name, content] of files) {
    await mkdir(join(tree, name, '..'), { recursive: true });
    await writeFile(join(tree, name), content, { mode: 0o640 });
  }
  await symlink('sub/deep', join(tree, 'link'));
  await writeFile(Buffer.concat([Buffer.from(`${tree}/bad`), Buffer.of(0xff)]), 'not UTF-8');
  // Before, restic lost the bytes.
  if (stock.isAtLeast(16)) await symlink(Buffer.from([0x74, 0x6f, 0xfe]), join(tree, 'bad link'));
  await link(join(tree, 'one'), join(tree, 'uno'));
  await execa('touch', ['-d', '@-1.5', join(tree, 'old')]);
  await execa('mkfifo', [join(tree, 'pipe')]);
  await execa('setfattr', ['-n', 'user.<b>', '-v', '0x00ff', join(tree, 'one')]);
  await execa('setfattr', ['-n', 'user.empty', join(tree, 'one')]);
  if (process.getuid?.() === 0) {
    await execa('mknod', [join(tree, 'null'), 'c', '1', '3']);
    await execa('mknod', [join(tree, 'loop'), 'b', '7', '200']);
  }
  return tree;
}

const made = new Map<string, Promise<RepositoryDirectory>>();
after(async () => {
  for (const directory of made.values()) await (await directory)[Symbol.asyncDispose]();
});

/** Its key takes stock restic two seconds to make: made once, and copied. */
async function freshRepository(stock: StockRestic, version: 1 | 2): Promise<RepositoryDirectory> {
  const key = `${stock.path} ${version}`;
  const original = made.get(key) ?? RepositoryDirectory.stock(stock, version);
  made.set(key, original);
  return await RepositoryDirectory.copied(await original, stock);
}

const variants = [
  { name: 'version 1', version: 1, compression: 'auto' },
  { name: 'version 2 uncompressed', version: 2, compression: 'off' },
  { name: 'version 2 compressed', version: 2, compression: 'max' },
] as const;

/** Every file, with its size, mode and time, and the link. */
async function requireTree(source: SnapshotSource, tree: string): Promise<void> {
  for (const [file, content] of files) {
    assert.ok((await collect(source.open(`tree/${file}`, never))).equals(content), JSON.stringify(file));
  }
  const entries = new Map<string, { type: string; mode: number; sizeBytes: number; mtimeNs: bigint }>();
  for await (const { path, type, sizeBytes, attributes } of source.entries('tree', never)) {
    entries.set(path, { type, sizeBytes, mode: attributes.mode, mtimeNs: attributes.mtimeNs });
  }
  for (const [file, content] of files) {
    const { mtimeNs } = await lstat(join(tree, file), { bigint: true });
    const expected = { type: 'file', sizeBytes: content.length, mode: 0o640, mtimeNs };
    assert.deepEqual(entries.get(`tree/${file}`), expected, JSON.stringify(file));
  }
  assert.equal(entries.get('tree/link')?.type, 'symlink');
  assert.equal((await collect(source.open('tree/bad\udcff', never))).toString(), 'not UTF-8');
}

for (const stock of stockRestics) {
  describe(`what stock restic ${stock.version} wrote`, () => {
    // Of an older restic only what it alone makes; all in the campaign.
    for (const { name, version, compression } of isCampaign || stock === stockRestics.at(-1)
      ? variants
      : variants.slice(0, 1)) {
      test(`is read, checked and added to: ${name}`, async () => {
        await using directory = await freshRepository(stock, version);
        const tree = await makeTree(directory.root, stock);
        await directory.restic(['backup', '--compression', compression, '--tag', 'native', 'tree']);
        await using store = await directory.store();
        assert.deepEqual((await store.check({ readData: true }, testContext())).findings, []);
        const [summary] = await store.list(testContext());
        assert.deepEqual(summary?.tags, ['native']);
        assert.deepEqual(summary.paths, [tree]);
        assert.equal(summary.stack, undefined);
        {
          await using source = await store.open(summary.id.slice(0, 8), undefined, testContext());
          await requireTree(source, tree);
          await assert.rejects(
            source.manifest(never),
            (error) => error instanceof TarsError && error.code === 'artifact-not-found',
          );
        }

        const content = Buffer.from('text '.repeat(100_000));
        await publishSamples(store, [{ path: 'dump', content, chunking: 'stream' }]);
        assert.match((await directory.restic(['check', '--read-data'])).toString(), /no errors were found/);
        const dumped = await directory.restic(['dump', 'latest', '--tag', 'tars', '/tars/lab/dump']);
        assert.ok(dumped.equals(content));
      });
    }
  });
}

for (const stock of stockRestics) {
  test(`documents of stock restic ${stock.version} encode to the same bytes again`, () => reencode(stock));
}

async function reencode(stock: StockRestic): Promise<void> {
  await using directory = await freshRepository(stock, 2);
  await makeTree(directory.root, stock);
  await directory.restic(['backup', '--tag', 'a', '--tag', 'b<c>', 'tree']);
  const ctx = testContext();
  const repository = await openRepository(createLocalStorage(directory.path), password, ctx);
  const reader = new BlobReader(repository, await loadBlobIndex(repository, ctx));
  const [name] = await readdir(join(directory.path, 'snapshots'));
  assert.ok(name);
  const json = await repository.loadUnpacked('snapshots', name, never);
  const snapshot = decodeSnapshot(json, name);
  // Statistics of its run, since 0.17, of which two are ours too.
  const { summary, ...written } = JSON.parse(json) as { summary?: Record<string, unknown> };
  const { data_added_packed, total_bytes_processed } = summary ?? {};
  assert.deepEqual(JSON.parse(encodeSnapshot(snapshot)), {
    ...written,
    ...(summary === undefined ? {} : { summary: { data_added_packed, total_bytes_processed } }),
    time: (JSON.parse(encodeSnapshot(snapshot)) as { time: string }).time,
  });
  let trees = 0;
  const pending = [snapshot.tree];
  for (let id = pending.pop(); id !== undefined; id = pending.pop()) {
    const stored = await reader.read(Buffer.from(id, 'hex'), 'tree', never);
    const nodes = decodeTree(stored, id);
    assert.equal(encodeTree(nodes).toString(), inUtc(stored.toString()), `tree ${id}`);
    pending.push(...nodes.flatMap(({ subtree }) => subtree ?? []));
    trees += 1;
  }
  assert.ok(trees >= 4, `${trees} trees`);
}

/** Our times are in UTC whatever the zone of the machine is. */
function inUtc(json: string): string {
  return json.replaceAll(
    /(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?([+-]\d\d:\d\d)/g,
    (_, whole, fraction, zone) => {
      const utc = new Date(`${String(whole)}${String(zone)}`).toISOString().slice(0, 19);
      return `${utc}${typeof fraction === 'string' ? fraction : ''}Z`;
    },
  );
}

for (const stock of stockRestics) {
  test(`stock restic ${stock.version} opens the configuration and the key we made`, async () => {
    await using directory = await RepositoryDirectory.created(stock);
    const output = (await directory.restic(['cat', 'config'])).toString();
    const config = JSON.parse(output) as Record<string, unknown>;
    const repository = await openRepository(createLocalStorage(directory.path), password, testContext());
    assert.equal(config['id'], repository.id);
    assert.equal(config['version'], 2);
    assert.equal(config['chunker_polynomial'], repository.config.chunkerPolynomial.toString(16));
    assert.equal((await readFile(join(directory.path, 'config'))).includes('version'), false);
  });
}
