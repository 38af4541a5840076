import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { CorruptionError } from '../../src/model/errors.ts';
import { encodeIndex } from '../../src/repository/format/index-file.ts';
import { encodeSnapshot } from '../../src/repository/format/snapshot-file.ts';
import type { BlobType } from '../../src/repository/format/pack.ts';
import { checkRepository } from '../../src/repository/check/check.ts';
import { openRepository, type OpenedRepository } from '../../src/repository/open.ts';
import { PackBuilder, packMaxBytes } from '../../src/repository/seal/pack-builder.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { never } from '../fixtures/archives.ts';
import { MemoryStorage } from '../fixtures/storage.ts';
import { createCheapRepository, password, simulatedContext } from '../simulation/stack-snapshots.ts';

/** Whoever has the password can write what no honest program would. Nobody who reads it may come to harm. */
const ctx = simulatedContext();
const idOf = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();
const hex = (bytes: Uint8Array): string => idOf(bytes).toString('hex');
const empty = '{"nodes":[]}\n';

const fresh = new MemoryStorage();
let created: Promise<unknown> | undefined;

/** A repository with a snapshot of the root tree `trees.at(-1)`, all sealed and indexed as they should be. */
async function repositoryWith(
  trees: readonly string[],
  contents: readonly Buffer[] = [],
): Promise<{ storage: MemoryStorage; repo: OpenedRepository }> {
  created ??= createCheapRepository(fresh, ctx);
  await created;
  const storage = fresh.copy();
  const repo = await openRepository(storage, password, ctx);
  await savePack(repo, 'tree', [Buffer.from(empty), ...trees.map((tree) => Buffer.from(tree))]);
  if (contents.length > 0) await savePack(repo, 'data', contents);
  const snapshot = {
    timeNs: 0n,
    tree: hex(Buffer.from(trees.at(-1) ?? empty)),
    paths: ['/tars/lab'],
    hostname: 'h',
    username: 'u',
    uid: 0,
    gid: 0,
    tags: [],
  };
  await repo.saveUnpacked('snapshots', encodeSnapshot(snapshot), never);
  return { storage, repo };
}

async function savePack(repo: OpenedRepository, type: BlobType, blobs: readonly Buffer[]): Promise<void> {
  const builder = new PackBuilder(repo.crypto, type, 3);
  const buffer = Buffer.alloc(packMaxBytes);
  for (const blob of blobs) builder.add(buffer, idOf(blob), blob, true);
  const pack = builder.finish(buffer);
  const bytes = Buffer.from(buffer.subarray(0, pack.lengthBytes));
  await repo.storage.save({ type: 'data', name: pack.id }, [bytes], never);
  await repo.saveUnpacked('index', encodeIndex([pack]), never);
}

const time = '2026-11-24T00:00:00Z';
const times = `"mtime":"${time}","atime":"${time}","ctime":"${time}"`;
const file = (name: string, content: readonly string[] = []): string =>
  `{"name":${JSON.stringify(name)},"type":"file",${times},"content":${JSON.stringify(content)}}`;
const directory = (name: string, subtree: string): string =>
  `{"name":${JSON.stringify(name)},"type":"dir",${times},"content":null,"subtree":"${hex(Buffer.from(subtree))}"}`;
const link = (name: string, more = ''): string =>
  `{"name":${JSON.stringify(name)},"type":"symlink",${times},"linktarget":"/etc","content":null${more}}`;
const tree = (...nodes: string[]): string => `{"nodes":[${nodes.join(',')}]}\n`;

async function listEntries(storage: MemoryStorage): Promise<number> {
  await using store = await openSnapshotStore(storage, password, ctx);
  await using source = await store.open('latest', undefined, ctx);
  let count = 0;
  for await (const { path } of source.entries('', never)) count += path.length > 0 ? 1 : 0;
  return count;
}

const subtreeOfEmpty = `,"subtree":"${hex(Buffer.from(empty))}"`;
const hostileTrees: readonly (readonly [string, string])[] = [
  ['a parent', tree(file('..'))],
  ['the directory itself', tree(file('.'))],
  ['no name', tree(file(''))],
  ['a path', tree(file('a/b'))],
  ['an absolute path', tree(file('/etc/passwd'))],
  ['a quoted slash', tree(file('..\\x2f..\\057etc'))],
  ['a NUL', tree(file('a\\x00b'))],
  ['a name twice', tree(file('a'), file('a'))],
  ['a link and a directory of one name', tree(link('a'), directory('a', empty))],
  ['one name quoted in two ways', tree(file('a'), file('\\x61'))],
  ['two names of the same bytes', tree(file('\ud800'), file('\ufffd'))],
  ['something below a link', tree(link('a', subtreeOfEmpty))],
  ['a directory without a tree', tree(`{"name":"a","type":"dir",${times}}`)],
];

for (const [what, root] of hostileTrees) {
  test(`a tree with ${what} is refused by readers and reported by the check`, async () => {
    const { storage, repo } = await repositoryWith([root]);
    await assert.rejects(listEntries(storage), CorruptionError);
    const { findings } = await checkRepository(repo, { readData: false }, ctx);
    assert.ok(
      findings.some(({ code }) => code === 'tree-incomplete'),
      JSON.stringify(findings),
    );
  });
}

test('names that only look dangerous are fine', async () => {
  const root = tree(file('...'), file('..a'), file('a\\\\b'), link('c'), directory('d', empty));
  const { storage, repo } = await repositoryWith([root]);
  assert.equal(await listEntries(storage), 5);
  assert.deepEqual((await checkRepository(repo, { readData: true }, ctx)).findings, []);
});

test('directories nested deeper than any path may be are refused', async () => {
  const trees = [empty];
  const name = 'd'.repeat(200);
  for (let depth = 0; depth < 100; depth += 1) trees.push(tree(directory(name, trees.at(-1) ?? empty)));
  const { storage } = await repositoryWith(trees.slice(1));
  await assert.rejects(listEntries(storage), CorruptionError);
});

test('a manifest of any length that claims to be short is refused', async () => {
  const blob = Buffer.alloc(4 << 20, ' ');
  const root = tree(file('manifest.json', Array<string>(2000).fill(hex(blob))));
  const { storage } = await repositoryWith([root], [blob]);
  await using store = await openSnapshotStore(storage, password, ctx);
  await using source = await store.open('latest', undefined, ctx);
  await assert.rejects(source.manifest(never), CorruptionError);
  assert.ok(process.resourceUsage().maxRSS < 900 << 10, `${process.resourceUsage().maxRSS} KiB`);
});
