import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { once } from 'node:events';
import {
  appendFile,
  chmod,
  chown,
  link,
  lstat,
  lutimes,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { archiveDestination, createStore, openStore } from '../../src/composition/index.ts';
import { createTreesComponent } from '../../src/components/files/index.ts';
import type { ComponentManifest, Manifest } from '../../src/model/manifest.ts';
import type { ArtifactSink } from '../../src/ports/artifacts.ts';
import type { CaptureReport } from '../../src/ports/component.ts';
import type { OperationContext } from '../../src/ports/context.ts';
import type { SnapshotWriter } from '../../src/ports/snapshot-store.ts';
import { parseSettings } from '../../src/composition/settings.ts';
import { createDirectorySink, createEmptyingSink, createDirectorySource } from '../fixtures/artifacts.ts';
import { tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';

const root = await mkdtemp(join(tmpdir(), 'tars-files-'));
after(() => rm(root, { recursive: true, force: true }));
const isRoot = process.getuid?.() === 0;
const fresh = (name: string): Promise<string> => mkdtemp(join(root, `${name}-`));
const restoreOptions = { restoreConfig: false, restoreId: 'r1' };

/** Everything a tree is: a socket is nothing. */
async function picture(directory: string, path = ''): Promise<Record<string, unknown>> {
  const at = join(directory, path);
  const stats = await lstat(at);
  const { mode, uid, gid } = stats;
  const common = { mode, uid, gid, mtimeMs: Math.floor(stats.mtimeMs) };
  if (stats.isSymbolicLink()) return { [path]: { ...common, target: await readlink(at) } };
  if (stats.isFile()) return { [path]: { ...common, content: (await readFile(at)).toString('base64') } };
  if (!stats.isDirectory()) return {};
  const below = await Promise.all(
    (await readdir(at)).sort().map((name) => picture(directory, join(path, name))),
  );
  return Object.assign({ [path]: common }, ...below) as Record<string, unknown>;
}

/** Files, directories and links of every kind a person may have. */
async function plant(directory: string): Promise<void> {
  await mkdir(join(directory, 'a/b/empty'), { recursive: true });
  await writeFile(join(directory, 'a/plain.txt'), 'plain');
  await writeFile(join(directory, 'a/b/nothing'), '');
  await writeFile(join(directory, 'a/b/ünïcode name\nof two lines'), 'odd');
  await writeFile(join(directory, 'a/large.bin'), Buffer.alloc(3_000_001, 'large'));
  await link(join(directory, 'a/plain.txt'), join(directory, 'a/hard'));
  await symlink('plain.txt', join(directory, 'a/link'));
  await symlink('/nowhere/at/all', join(directory, 'a/dangling'));
  await symlink('b', join(directory, 'a/to-directory'));
  await writeFile(join(directory, 'secret'), 'hush', { mode: 0o600 });
  await chmod(join(directory, 'a/b'), 0o2750);
  await chmod(join(directory, 'a/b/empty'), 0o1777);
  if (isRoot) {
    await chown(join(directory, 'a/plain.txt'), 1234, 2345);
    await chown(join(directory, 'a/b'), 33, 33);
    await chmod(join(directory, 'a/b'), 0o2750);
  }
  await lutimes(join(directory, 'a/link'), 1_000_000, 1_000_000);
  for (const path of ['a/plain.txt', 'a/b/empty', 'a/b', 'a', ''])
    await utimes(join(directory, path), 1_234_567.891, 1_234_567.891);
}

test('a tree comes back as it was: content, modes, owners, times, links; unchanged files are not read again', async () => {
  const home = await fresh('round-trip');
  const tree = join(home, 'uploads');
  await mkdir(tree);
  await plant(tree);
  await mkdir(join(tree, 'cache'));
  await writeFile(join(tree, 'cache/skipped'), 'not wanted');
  const socket = createServer().listen(join(tree, 'socket'));
  await once(socket, 'listening');
  await utimes(tree, 1_234_567.891, 1_234_567.891);
  await writeFile(
    join(home, 'tars.yaml'),
    JSON.stringify({
      ...{ version: 1, stack: 'files', repository: { path: './repository' }, state_dir: './state' },
      components: { uploads: { kind: 'files', paths: ['uploads'], exclude: ['cache'] } },
    }),
  );
  const ok = async (...args: readonly string[]): Promise<string> => {
    const done = await tars(args, { cwd: home, env: { TARS_PASSWORD: 'long enough' } });
    assert.equal(done.exitCode, 0, done.stderr);
    return done.stdout;
  };
  await ok('init');
  // What is excluded stays where it is.
  const before = await picture(tree);
  await ok('backup');
  const again = JSON.parse(await ok('backup', '--json')) as { addedBytes: number; processedBytes: number };
  assert.ok(again.addedBytes < 100_000, `${again.addedBytes}`);
  await ok('verify');
  socket.close();

  await rm(join(tree, 'a/b'), { recursive: true });
  await writeFile(join(tree, 'a/plain.txt'), 'changed');
  await writeFile(join(tree, 'stranger'), 'new since');
  await rm(join(tree, 'a/link'));
  assert.match(
    (await tars(['verify'], { cwd: home, env: { TARS_PASSWORD: 'long enough' } })).stderr,
    /plain\.txt was changed since/,
  );
  await ok('restore', '--yes');
  assert.deepEqual(await picture(tree), before);
});

/** Captures with a component of its own and returns what a restore takes. */
async function captured(
  component: ReturnType<typeof createTreesComponent>,
  ctx: OperationContext = testContext(),
): Promise<{ manifest: ComponentManifest; directory: string }> {
  const directory = await fresh('artifacts');
  const sink = createDirectorySink(directory, { encrypted: true });
  await using prepared = await component.prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  const { facts } = await prepared.capture(sink, ctx);
  const manifest: ComponentManifest = {
    ...{ name: component.name, kind: component.kind, outcome: 'captured', facts },
    artifacts: [...sink.artifacts],
  };
  return { manifest, directory };
}

const contents = async (directory: string): Promise<Record<string, string>> => {
  const names = (await readdir(directory)).filter((name) => !name.startsWith('.tars-')).sort();
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(join(directory, name), 'utf8')])),
  ) as Record<string, string>;
};

test('a mounted directory stays itself: its entries are exchanged, also what came and went meanwhile, and back again', async () => {
  const ctx = testContext();
  const tree = await fresh('mounted');
  const component = createTreesComponent({
    ...{ name: 'data', service: undefined, keepDirectory: true },
    trees: [{ path: '/in/container', live: tree, exclude: [] }],
  });
  for (const name of ['one', 'two', 'three']) await writeFile(join(tree, name), `${name} then`);
  await chmod(tree, 0o2771);
  const { manifest, directory } = await captured(component);
  await rm(join(tree, 'three'));
  await writeFile(join(tree, 'one'), 'one now');
  await writeFile(join(tree, 'four'), 'four now');
  await chmod(tree, 0o700);
  const { ino } = await lstat(tree);

  const planned = await component.planRestore(
    manifest,
    restoreOptions,
    ctx,
    createDirectorySource(directory),
  );
  const staged = await planned.stage(createDirectorySource(directory), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await rm(join(tree, 'two'));
  await writeFile(join(tree, 'five'), 'five now');
  const record = JSON.parse(JSON.stringify(staged.record)) as typeof staged.record;
  await staged.swap(ctx);
  await staged.discard(ctx);
  assert.deepEqual(await contents(tree), { one: 'one then', three: 'three then', two: 'two then' });
  assert.equal((await lstat(tree)).ino, ino);
  assert.equal((await lstat(tree)).mode & 0o7777, 0o2771);
  assert.deepEqual(await component.verify(manifest, ctx, createDirectorySource(directory)), []);

  await component.generation(record).undo(ctx);
  await component.generation(record).undo(ctx);
  assert.deepEqual(await contents(tree), { five: 'five now', four: 'four now', one: 'one now' });
  assert.equal((await lstat(tree)).mode & 0o7777, 0o700);
  assert.deepEqual((await readdir(tree)).sort(), ['five', 'four', 'one'], 'nothing of the restore is left');

  const later = await component.planRestore(
    manifest,
    { ...restoreOptions, restoreId: 'r2' },
    ctx,
    createDirectorySource(directory),
  );
  const second = await later.stage(createDirectorySource(directory), ctx);
  await second.swap(ctx);
  await component.generation(second.record).discardPrevious(ctx);
  assert.deepEqual((await readdir(tree)).sort(), ['one', 'three', 'two']);
});

test('a directory of its own is renamed, and missing ones are made', async () => {
  const ctx = testContext();
  const parent = await fresh('renamed');
  const tree = join(parent, 'deep/tree');
  await mkdir(tree, { recursive: true });
  await plant(tree);
  const component = createTreesComponent({
    ...{ name: 'data', service: 'web' },
    trees: [{ path: tree, live: tree, exclude: [] }],
  });
  const { manifest, directory } = await captured(component);
  await rm(join(parent, 'deep'), { recursive: true });
  const planned = await component.planRestore(
    manifest,
    restoreOptions,
    ctx,
    createDirectorySource(directory),
  );
  assert.deepEqual(planned.plan.requires.stopped, ['web']);
  const staged = await planned.stage(createDirectorySource(directory), ctx);
  await staged.swap(ctx);
  assert.equal(await readFile(join(tree, 'a/plain.txt'), 'utf8'), 'plain');
  assert.equal((await lstat(join(tree, 'secret'))).mode & 0o777, 0o600);
  await component.generation(staged.record).undo(ctx);
  await assert.rejects(lstat(tree), { code: 'ENOENT' });
});

test('damage is found: before the swap, and later by the time a file has', async () => {
  const ctx = testContext();
  const tree = await fresh('damage');
  await writeFile(join(tree, 'kept'), 'as it was');
  await writeFile(join(tree, 'edited'), 'as it was');
  for (const name of ['kept', 'edited']) await utimes(join(tree, name), 1000, 1000);
  const component = createTreesComponent({
    ...{ name: 'data', service: undefined },
    trees: [{ path: tree, live: tree, exclude: [] }],
  });
  const { manifest, directory } = await captured(component);
  const planned = await component.planRestore(
    manifest,
    restoreOptions,
    ctx,
    createDirectorySource(directory),
  );
  await writeFile(join(directory, 'data', tree, 'kept'), 'as it wos');
  await utimes(join(directory, 'data', tree, 'kept'), 1000, 1000);
  const staged = await planned.stage(createDirectorySource(directory), ctx);
  assert.deepEqual(
    (await staged.verify(ctx)).map(({ severity, code }) => [severity, code]),
    [['error', 'file-damaged']],
  );
  await staged.discard(ctx);
  assert.deepEqual(
    await readdir(join(tree, '..')).then((names) => names.filter((name) => name.includes('.tars-'))),
    [],
  );

  await writeFile(join(tree, 'kept'), 'as it wos');
  await utimes(join(tree, 'kept'), 1000, 1000);
  await writeFile(join(tree, 'edited'), 'as it wos');
  await utimes(join(tree, 'edited'), 1, 1);
  const found = (await component.verify(manifest, ctx, createDirectorySource(directory))).map(
    ({ severity, code }) => `${severity} ${code}`,
  );
  assert.deepEqual(found.sort(), ['error file-damaged', 'warning file-differs']);

  const foreign: ComponentManifest = {
    ...manifest,
    facts: { trees: [{ path: '/etc', entries: [], skipped: [], changing: [] }] },
  };
  await assert.rejects(
    component.planRestore(foreign, restoreOptions, ctx, createDirectorySource(directory)),
    /the snapshot holds \/etc, but data in tars\.yaml names other directories/,
  );
  const partly = { ...manifest, facts: { trees: [foreign, manifest].flatMap(treesOf) } };
  const {
    plan: { warnings },
  } = await component.planRestore(partly, restoreOptions, ctx, createDirectorySource(directory));
  assert.match(warnings[0] ?? '', /\/etc is in the snapshot and is not restored/);
});

const treesOf = ({ facts }: ComponentManifest): unknown[] => facts['trees'] as unknown[];

test('what cannot be read is missing, by name, and the rest is kept', async () => {
  const tree = await fresh('unreadable');
  await writeFile(join(tree, 'open'), 'open', { mode: 0o644 });
  await writeFile(join(tree, 'closed'), 'closed', { mode: 0o000 });
  await mkdir(join(tree, 'shut/within'), { recursive: true });
  await chmod(join(tree, 'shut'), 0o000);
  await chmod(tree, 0o755);
  await chmod(root, 0o755);
  if (isRoot) process.seteuid?.(65_534);
  const captureWithout = (exclude: readonly string[]): ReturnType<typeof reportOf> =>
    reportOf(createEmptyingSink(), [{ path: tree, live: tree, exclude }]);
  try {
    const { incomplete, facts } = await captureWithout([]);
    assert.equal((facts as { trees: { files: number }[] }).trees[0]?.files, 1);
    assert.equal(incomplete?.count, 2);
    assert.deepEqual(incomplete.named.map(({ path }) => path).sort(), [
      join(tree, 'closed'),
      join(tree, 'shut'),
    ]);
    for (const { reason } of incomplete.named) assert.match(reason, /^EACCES: permission denied$/);
    assert.equal((await captureWithout(['closed', 'shut/'])).incomplete, undefined);
  } finally {
    if (isRoot) process.seteuid?.(0);
    await chmod(join(tree, 'shut'), 0o700);
  }
});

async function reportOf(
  sink: ArtifactSink,
  trees: Parameters<typeof createTreesComponent>[0]['trees'],
  ctx: OperationContext = testContext(),
): Promise<CaptureReport> {
  const component = createTreesComponent({ name: 'data', service: undefined, trees });
  await using prepared = await component.prepare(ctx);
  return await prepared.capture(sink, ctx);
}

for (const destination of ['repository', 'archive'] as const) {
  test(`${destination}: a file that changes while it is read is read again, and kept with a warning when it never rests`, async () => {
    const home = await fresh('changing');
    const tree = join(home, 'tree');
    await mkdir(tree);
    for (const name of ['busy', 'once', 'still']) await writeFile(join(tree, name), `${name}\n`);
    const text = `{version: 1, stack: s, repository: {path: repository}, scratch_dir: "${home}", components: {}}`;
    const settings = parseSettings(text, join(home, 'tars.yaml'), {});
    const warnings: string[] = [];
    const base = testContext();
    const ctx = { ...base, log: { ...base.log, warn: (message: string) => void warnings.push(message) } };
    await createStore(settings.repository.path, 'long enough', ctx);
    await using store = await openStore(settings, { TARS_PASSWORD: 'long enough' }, ctx);
    const target = destination === 'repository' ? store : archiveDestination(home, 'gzip', settings);
    await using writer = await target.begin({ stack: 's', hostname: 'h', username: 'u' }, ctx);
    const reads: string[] = [];
    const artifacts: ComponentManifest['artifacts'] = [];
    const { facts, incomplete } = await reportOf(
      touching(writer, tree, reads, artifacts),
      [{ path: tree, live: tree, exclude: [] }],
      ctx,
    );
    assert.deepEqual(reads.sort(), ['busy', 'busy', 'busy', 'once', 'once', 'still']);
    assert.deepEqual((facts as { trees: { changing: string[] }[] }).trees[0]?.changing, ['busy']);
    assert.deepEqual(incomplete?.named, [
      {
        path: join(tree, 'busy'),
        reason: 'it changed every time it was read, so what the snapshot keeps may be torn',
      },
    ]);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? '', /busy in .* changed every time it was read/);
    const manifest = {
      ...{ schemaVersion: 1, stack: 's', toolVersion: 't', hostname: 'h', consistency: 'per-store' as const },
      ...{
        time: '2026-01-02T03:04:05.000Z',
        startedAt: '2026-01-02T03:04:05.000Z',
        finishedAt: '2026-01-02T03:04:05.000Z',
      },
      components: [
        { name: 'data', kind: 'files', outcome: 'captured' as const, facts: { ...facts }, artifacts },
      ],
      ...{ outcome: 'complete' as const, notCaptured: [] },
    } satisfies Manifest;
    await writer.publish(manifest, ctx);
    const stored = artifacts.map(({ path, sizeBytes }) => [path.split('/').at(-1), sizeBytes]).sort();
    assert.deepEqual(stored, [
      // Twice appended to before the last reading, of which only what was there at its beginning counts.
      ['busy', 5 + 2 * 2],
      ['once', 5 + 2],
      ['still', 6],
    ]);
  });
}

/** Appends to files in the middle of being read: to `busy` always, to `once` the first time. */
function touching(
  writer: SnapshotWriter,
  tree: string,
  reads: string[],
  artifacts: ComponentManifest['artifacts'],
): ArtifactSink {
  return {
    encrypted: writer.encrypted,
    async write(path, body, options) {
      const name = path.split('/').at(-1) ?? '';
      reads.push(name);
      const touched = async function* (): AsyncGenerator<Uint8Array> {
        for await (const chunk of body) {
          const isFirst = reads.filter((read) => read === name).length === 1;
          if (name === 'busy' || (name === 'once' && isFirst)) await appendFile(join(tree, name), '+\n');
          yield chunk;
        }
      };
      const artifact = await writer.write(path, touched(), options);
      artifacts.push(artifact);
      return artifact;
    },
    reuse: (path, identity) => writer.reuse(path, identity),
    directory: (path, attributes) => writer.directory(path, attributes),
    symlink: (path, target, attributes) => writer.symlink(path, target, attributes),
    link: (path, existing, identity) => writer.link(path, existing, identity),
    special: (path, file, attributes) => writer.special(path, file, attributes),
    finish: (path) => writer.finish(path),
  };
}
