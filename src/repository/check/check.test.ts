import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { testContext } from '../../../test/fixtures/context.ts';
import { MemoryStorage } from '../../../test/fixtures/storage.ts';
import { InterruptedError, RepositoryLockedError, TarsError } from '../../model/errors.ts';
import type { CheckReport } from '../../ports/snapshot-store.ts';
import { checkRepository } from './check.ts';
import { planWindows } from './pack.ts';
import { encodeIndex, type IndexedPack } from '../format/index-file.ts';
import { encodePackTrailer, type BlobType, type PackedBlob } from '../format/pack.ts';
import { encodeSnapshot } from '../format/snapshot-file.ts';
import { encodeTree, type TreeNode } from '../format/tree.ts';
import { acquireLock } from '../lock/lock.ts';
import { type OpenedRepository } from '../open.ts';
import { createWithCheapKey } from '../../../test/fixtures/cheap-key.ts';

const ctx = testContext();
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const bytesOf = (text: string): Buffer => Buffer.from(text.repeat(200));

const attributes = {
  mode: 0o600,
  mtimeNs: 0n,
  atimeNs: 0n,
  ctimeNs: 0n,
  uid: 0,
  gid: 0,
} as const;
const fileNode = (name: string, ...blobs: Buffer[]): TreeNode => ({
  ...attributes,
  name,
  type: 'file',
  content: Buffer.concat(blobs.map((blob) => Buffer.from(sha256(blob), 'hex'))),
});
const dirNode = (name: string, tree: Buffer): TreeNode => ({
  ...attributes,
  name,
  type: 'dir',
  subtree: sha256(tree),
});

interface PackOptions {
  /** Bytes of nothing before each blob. */
  readonly gapBytes?: number;
  /** What the header is made to say instead of the truth. */
  readonly header?: (blobs: readonly PackedBlob[]) => readonly PackedBlob[];
}

/** Stores a pack without indexing it. */
async function savePack(
  repo: OpenedRepository,
  type: BlobType,
  plaintexts: readonly Buffer[],
  { gapBytes = 0, header = (blobs) => blobs }: PackOptions = {},
): Promise<IndexedPack> {
  const parts: Buffer[] = [];
  const blobs: PackedBlob[] = [];
  let offsetBytes = 0;
  for (const plaintext of plaintexts) {
    const sealed = repo.crypto.seal(plaintext);
    parts.push(Buffer.alloc(gapBytes), sealed);
    offsetBytes += gapBytes;
    const place = { offsetBytes, lengthBytes: sealed.length, uncompressedBytes: undefined };
    blobs.push({ id: sha256(plaintext), type, ...place });
    offsetBytes += sealed.length;
  }
  const content = Buffer.concat([...parts, encodePackTrailer(header(blobs), repo.crypto)]);
  const id = sha256(content);
  await repo.storage.save({ type: 'data', name: id }, [content], ctx.signal);
  return { id, blobs };
}

const saveIndex = (repo: OpenedRepository, ...packs: IndexedPack[]): Promise<string> =>
  repo.saveUnpacked('index', encodeIndex(packs), ctx.signal);
const saveSnapshot = (repo: OpenedRepository, tree: Buffer, timeNs = 0n): Promise<string> =>
  repo.saveUnpacked(
    'snapshots',
    encodeSnapshot({
      timeNs,
      tree: sha256(tree),
      paths: ['/'],
      hostname: 'h',
      username: 'u',
      uid: 0,
      gid: 0,
      tags: [],
    }),
    ctx.signal,
  );

const one = bytesOf('one');
const two = bytesOf('two');
const leaf = encodeTree([fileNode('a', one), fileNode('b', one, two)]);
const root = encodeTree([dirNode('dir', leaf), fileNode('c', one)]);

interface Sample {
  readonly storage: MemoryStorage;
  readonly repo: OpenedRepository;
  readonly data: IndexedPack;
  readonly trees: IndexedPack;
  readonly index: string;
  readonly snapshot: string;
}

/** One snapshot: `/dir/a` of one blob, `/dir/b` of two, `/c`. */
async function sample(options: PackOptions = {}): Promise<Sample> {
  const storage = new MemoryStorage();
  const repo = await createWithCheapKey(storage, 'x', ctx);
  const data = await savePack(repo, 'data', [one, two], options);
  const trees = await savePack(repo, 'tree', [leaf, root]);
  const index = await saveIndex(repo, data, trees);
  return { storage, repo, data, trees, index, snapshot: await saveSnapshot(repo, root) };
}

const check = ({ repo }: Sample, readData = true): Promise<CheckReport> =>
  checkRepository(repo, { readData }, ctx);
const codes = (report: CheckReport): string[] =>
  report.findings.map(({ severity, code }) => `${severity} ${code}`).sort();
const messageOf = (report: CheckReport, code: string): string =>
  report.findings.find((finding) => finding.code === code)?.message ?? assert.fail(`no finding ${code}`);

function flip(storage: MemoryStorage, key: string, position: number): void {
  const bytes = Buffer.from(storage.files.get(key) ?? assert.fail(key));
  bytes[position] = (bytes[position] ?? 0) ^ 1;
  storage.files.set(key, bytes);
}

test('a sound repository has no findings, and everything was counted and read', async () => {
  const s = await sample();
  const report = await check(s);
  assert.deepEqual(report.findings, []);
  const packBytes = [s.data, s.trees].map(({ id }) => s.storage.files.get(`data/${id}`)?.length ?? 0);
  assert.deepEqual(
    { snapshots: report.snapshots, packs: report.packs, blobs: report.blobs, readBytes: report.readBytes },
    { snapshots: 1, packs: 2, blobs: 4, readBytes: (packBytes[0] ?? 0) + (packBytes[1] ?? 0) },
  );
  assert.equal((await check(s, false)).readBytes, 0);
});

test('a damaged data blob names the pack, the snapshot and the paths that need it', async () => {
  const s = await sample();
  flip(s.storage, `data/${s.data.id}`, (s.data.blobs[1]?.offsetBytes ?? 0) + 20);
  assert.deepEqual(codes(await check(s, false)), []);
  const report = await check(s);
  assert.deepEqual(codes(report), ['error pack-damaged', 'error snapshot-affected']);
  assert.match(messageOf(report, 'pack-damaged'), new RegExp(sha256(two)));
  assert.doesNotMatch(messageOf(report, 'pack-damaged'), new RegExp(sha256(one)));
  assert.match(messageOf(report, 'snapshot-affected'), /completely: \/dir\/b$/);
});

test('a damaged tree affects the whole directory and is found without reading all data', async () => {
  const s = await sample();
  flip(s.storage, `data/${s.trees.id}`, 20);
  const report = await check(s, false);
  assert.deepEqual(codes(report), ['error snapshot-affected', 'error tree-damaged']);
  assert.match(messageOf(report, 'snapshot-affected'), /completely: \/dir\/$/);
});

test('a damaged header is found though every blob is sound, and no snapshot is affected', async () => {
  const s = await sample();
  const sizeBytes = s.storage.files.get(`data/${s.data.id}`)?.length ?? 0;
  flip(s.storage, `data/${s.data.id}`, sizeBytes - 10);
  assert.deepEqual(codes(await check(s)), ['error pack-damaged']);
});

test('a missing pack and a short one affect what needs them', async () => {
  for (const damage of ['missing', 'short'] as const) {
    const s = await sample();
    const key = `data/${s.data.id}`;
    const bytes = s.storage.files.get(key) ?? assert.fail();
    if (damage === 'missing') s.storage.files.delete(key);
    else s.storage.files.set(key, bytes.subarray(0, (s.data.blobs[1]?.offsetBytes ?? 0) + 5));
    const report = await check(s, false);
    const code = damage === 'missing' ? 'pack-missing' : 'pack-size-differs';
    assert.deepEqual(codes(report), [`error ${code}`, 'error snapshot-affected']);
    const paths = damage === 'missing' ? /completely: \/c, \/dir\/a, \/dir\/b$/ : /completely: \/dir\/b$/;
    assert.match(messageOf(report, 'snapshot-affected'), paths);
  }
});

test('a blob that no index has is an error, and so is a missing index', async () => {
  const s = await sample();
  s.storage.files.delete(`index/${s.index}`);
  await saveIndex(s.repo, { ...s.data, blobs: s.data.blobs.slice(0, 1) }, s.trees);
  const report = await check(s, false);
  assert.deepEqual(codes(report), [
    'error pack-size-differs',
    'error snapshot-affected',
    'error tree-incomplete',
  ]);
  assert.match(messageOf(report, 'tree-incomplete'), new RegExp(`file "b" needs 1 .*${sha256(two)}`));
  const bare = await sample();
  bare.storage.files.delete(`index/${bare.index}`);
  assert.deepEqual(codes(await check(bare)), [
    'error snapshot-affected',
    'error tree-damaged',
    'info pack-not-indexed',
    'info pack-not-indexed',
  ]);
});

test('a pack in no index is information only', async () => {
  const s = await sample();
  await savePack(s.repo, 'data', [bytesOf('leftover')]);
  assert.deepEqual(codes(await check(s)), ['info pack-not-indexed']);
});

test('a gap before a blob, and a header that disagrees with the index, are errors', async () => {
  const gap = await check(await sample({ gapBytes: 7 }));
  assert.match(messageOf(gap, 'pack-damaged'), /gap of 7 bytes/);
  const fewer = await check(await sample({ header: (blobs) => blobs.slice(0, 1) }));
  assert.match(messageOf(fewer, 'pack-damaged'), /the index has data blob .* where the header does not/);
  const renamed = (blobs: readonly PackedBlob[]): PackedBlob[] =>
    blobs.map((blob) => ({ ...blob, id: blob.id.replaceAll('a', 'b') }));
  const other = await check(await sample({ header: renamed }));
  assert.match(messageOf(other, 'pack-damaged'), /the header lists 2 blobs that the index does not have/);
});

test('an index that points outside the file or lets blobs overlap is found and nothing crashes', async () => {
  const s = await sample();
  s.storage.files.delete(`index/${s.index}`);
  const [first, second] = s.data.blobs;
  assert.ok(first && second);
  const lying = [
    first,
    { ...second, offsetBytes: first.offsetBytes + 1 },
    { ...second, id: 'ab'.repeat(32), offsetBytes: 0xfffffff0 },
  ];
  await saveIndex(s.repo, { id: s.data.id, blobs: lying }, s.trees);
  const report = await check(s);
  assert.match(messageOf(report, 'pack-damaged'), /outside the file or within another blob/);
  assert.match(messageOf(report, 'snapshot-affected'), /completely: \/dir\/b$/);
});

test('a pack in two indexes alike is fine and read once; described differently it is a warning', async () => {
  const s = await sample();
  const { readBytes } = await check(s);
  await saveIndex(s.repo, s.data);
  const again = await check(s);
  assert.deepEqual(again.findings, []);
  assert.equal(again.readBytes, readBytes);
  await saveIndex(s.repo, { ...s.data, blobs: s.data.blobs.slice(0, 1) });
  assert.deepEqual(codes(await check(s)), ['warning pack-indexed-differently']);
});

test('every small file is examined: config, keys, locks, snapshots, indexes', async () => {
  for (const type of ['config', 'keys', 'snapshots', 'index', 'locks']) {
    const s = await sample();
    const held = await acquireLock(s.repo, { exclusive: false }, ctx);
    const key = [...s.storage.files.keys()].find((name) => name.startsWith(type)) ?? assert.fail(type);
    flip(s.storage, key, 25);
    const report = await check(s);
    const finding = report.findings.find(({ subject }) => subject === key);
    assert.equal(finding?.severity, 'error', `${type}: ${codes(report).join()}`);
    assert.match(finding.code, /^(config|key|snapshot|index|lock)-damaged$/);
    await held[Symbol.asyncDispose]();
  }
});

test('a repository without a key is an error, a stale lock a warning', async () => {
  const s = await sample();
  await s.repo.saveUnpacked(
    'locks',
    '{"time":"2020-01-01T00:00:00Z","exclusive":false,"hostname":"h","username":"u","pid":7}',
    ctx.signal,
  );
  for (const key of s.storage.files.keys()) if (key.startsWith('keys/')) s.storage.files.delete(key);
  assert.deepEqual(codes(await check(s)), ['error key-missing', 'warning lock-stale']);
});

test('a check never ends at the first problem', async () => {
  const s = await sample();
  flip(s.storage, `data/${s.data.id}`, 20);
  flip(s.storage, `data/${s.trees.id}`, (s.trees.blobs[0]?.offsetBytes ?? 0) + 20);
  s.storage.files.set(`snapshots/${'ab'.repeat(32)}`, Buffer.alloc(100));
  s.storage.files.set(`index/${'cd'.repeat(32)}`, Buffer.alloc(0));
  assert.deepEqual(codes(await check(s)), [
    'error index-damaged',
    'error pack-damaged',
    'error pack-damaged',
    'error snapshot-affected',
    'error snapshot-damaged',
    'error tree-damaged',
  ]);
});

test('a check holds a lock of its own, and refuses while somebody has an exclusive one', async () => {
  const s = await sample();
  let seen = 0;
  const watched = Object.create(s.repo.storage) as MemoryStorage;
  watched.list = (type, signal) => {
    seen = [...s.storage.files.keys()].filter((key) => key.startsWith('locks/')).length;
    return s.storage.list(type, signal);
  };
  await checkRepository({ ...s.repo, storage: watched }, { readData: false }, ctx);
  assert.equal(seen, 1);
  assert.ok(![...s.storage.files.keys()].some((key) => key.startsWith('locks/')));
  await using held = await acquireLock(s.repo, { exclusive: true }, ctx);
  await assert.rejects(check(s), RepositoryLockedError);
  assert.equal(held.signal.aborted, false);
});

test('a repository that cannot be written to is checked all the same', async () => {
  const s = await sample();
  const readOnly = {
    ...s.repo,
    saveUnpacked: () => Promise.reject(new TarsError('access-denied', 'Read-only file system')),
  };
  assert.deepEqual((await checkRepository(readOnly, { readData: true }, ctx)).findings, []);
});

test('an interruption ends a check, and is no finding', async () => {
  const s = await sample();
  const controller = new AbortController();
  controller.abort(new InterruptedError());
  const running = checkRepository(s.repo, { readData: true }, testContext(controller.signal));
  await assert.rejects(running, InterruptedError);
});

test('threads find what the main thread finds', async () => {
  const storage = new MemoryStorage();
  const repo = await createWithCheapKey(storage, 'x', ctx);
  const packs: IndexedPack[] = [];
  const large = Array.from({ length: 9 }, (_, i) => Buffer.alloc(8 << 20, i + 1));
  for (const blob of large) packs.push(await savePack(repo, 'data', [blob, bytesOf(`tail${blob[0] ?? 0}`)]));
  const tree = encodeTree(large.map((blob, i) => fileNode(`f${i}`, blob)));
  await saveIndex(repo, ...packs, await savePack(repo, 'tree', [tree]));
  await saveSnapshot(repo, tree);
  const clean = await checkRepository(repo, { readData: true }, ctx);
  assert.deepEqual(clean.findings, []);
  assert.ok(clean.readBytes > 72 << 20, 'large enough for threads');
  flip(storage, `data/${packs[3]?.id ?? ''}`, 5 << 20);
  flip(storage, `data/${packs[8]?.id ?? ''}`, 30);
  const report = await checkRepository(repo, { readData: true }, ctx);
  assert.deepEqual(codes(report), ['error pack-damaged', 'error pack-damaged', 'error snapshot-affected']);
  assert.match(messageOf(report, 'snapshot-affected'), /completely: \/f3, \/f8$/);
});

test('windows cover a pack from the first byte to the last and hold their blobs whole', () => {
  const sizes = [10, 5 << 20, 3 << 20, 1, 0, 9 << 20, 40];
  let offsetBytes = 0;
  const blobs = sizes.map((lengthBytes, i): PackedBlob => {
    const blob = {
      id: `${i}`,
      type: 'data',
      offsetBytes,
      lengthBytes,
      uncompressedBytes: undefined,
    } as const;
    offsetBytes += lengthBytes + (i === 3 ? 11 << 20 : 0);
    return blob;
  });
  const sizeBytes = offsetBytes + (6 << 20);
  const windows = planWindows({ id: 'p', sizeBytes, blobs, partial: false });
  let end = 0;
  for (const window of windows) {
    assert.equal(window.offsetBytes, end);
    end += window.lengthBytes;
    for (const blob of window.blobs) {
      assert.ok(blob.offsetBytes >= window.offsetBytes && blob.offsetBytes + blob.lengthBytes <= end);
    }
    assert.ok(window.lengthBytes <= 9 << 20, `${window.lengthBytes}`);
  }
  assert.equal(end, sizeBytes);
  assert.deepEqual(
    windows.flatMap((window) => window.blobs),
    blobs,
  );
});
