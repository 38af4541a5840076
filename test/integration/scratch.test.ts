import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, test } from 'node:test';
import { stringify } from 'yaml';
import { createArchiveDestination } from '../../src/archive/write.ts';
import {
  abandonedScratch,
  earlierScratch,
  openScratch,
  removeAbandonedScratch,
} from '../../src/disk/run-scratch.ts';
import { label } from '../fixtures/archives.ts';
import { tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';

const childFile = fileURLToPath(new URL('../fixtures/scratch-child.ts', import.meta.url));

let root: string;
let base: string;
let outputDir: string;
let children: ChildProcess[];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-scratch-'));
  [base, outputDir] = [join(root, 'scratch'), join(root, 'archives')];
  await mkdir(outputDir);
  children = [];
});
afterEach(async () => {
  for (const child of children) await kill(child);
  await rm(root, { recursive: true, force: true });
});

interface Started {
  readonly child: ChildProcess;
  /** The directory in the run's one. */
  readonly scratch: string;
  readonly partial: string;
}

async function start(): Promise<Started> {
  const child = spawn(process.execPath, [childFile, base, outputDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, ...(JSON.parse(line.toString()) as { scratch: string; partial: string }) };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

const names = (directory: string): Promise<string[]> => readdir(directory).then((found) => found.sort());
const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

test('all of a run lies in one directory, which goes with the last of it', async () => {
  const first = await openScratch(base, 'chroma');
  const second = await openScratch(base, 'mirror', 'store-1');
  const [run = '', ...others] = await names(base);
  assert.deepEqual(others, []);
  assert.deepEqual([dirname(first.path), dirname(second.path)], [join(base, run), join(base, run)]);
  assert.equal((await stat(join(base, run))).mode & 0o777, 0o700);
  await first[Symbol.asyncDispose]();
  await first[Symbol.asyncDispose]();
  assert.deepEqual(await removeAbandonedScratch(base), { removed: [], failed: [] }, 'our own');
  await second[Symbol.asyncDispose]();
  assert.deepEqual(await names(base), []);
  const opened = await Promise.all([1, 2, 3].map(() => openScratch(base, 'redis')));
  await Promise.all(opened.map((scratch) => scratch[Symbol.asyncDispose]()));
  await using again = await openScratch(base, 'mirror', 'store-1');
  assert.equal(again.path, second.path, 'where planning saw it');
});

test('what a kill -9 left goes with the next run; what a live process uses stays', async () => {
  const [killed, alive] = [await start(), await start()];
  await kill(killed.child);
  assert.deepEqual(await abandonedScratch(base), [dirname(killed.scratch)]);
  assert.ok(await exists(join(killed.scratch, 'plaintext')), 'looking changes nothing');
  const settingsPath = join(root, 'tars.yaml');
  const settings = {
    ...{ version: 1, stack: 'lab', scratch_dir: base, state_dir: join(root, 'state') },
    repository: { path: join(root, 'repository') },
    components: { config: { files: ['none.env'] } },
  };
  await writeFile(settingsPath, stringify(settings), { mode: 0o600 });
  const { stderr } = await tars(['--config', settingsPath, 'status']);
  assert.match(
    stderr,
    new RegExp(`Removed the leftovers of a run that was killed: ${dirname(killed.scratch)}`),
  );
  assert.deepEqual(await names(base), [dirname(alive.scratch).slice(base.length + 1)]);
  assert.ok(await exists(join(alive.scratch, 'plaintext')));
});

test('an archive that a kill -9 cut off goes with the next one; one that grows stays', async () => {
  const [killed, alive] = [await start(), await start()];
  await kill(killed.child);
  const earlier = join(outputDir, '.tars-backup-20200101_000000.tar.gz.partial');
  await writeFile(earlier, 'of 1.0.12');
  const orphan = join(outputDir, '.tars-backup-20210101_000000.tar.gz.partial.lock');
  await writeFile(orphan, '');
  const heard: string[] = [];
  const ctx = testContext();
  const destination = createArchiveDestination({ outputDir, compression: 'gzip', scratchDir: base });
  const log = { ...ctx.log, warn: (text: string) => heard.push(text) };
  await (await destination.begin(label, { ...ctx, log }))[Symbol.asyncDispose]();
  const left = [earlier, alive.partial, `${alive.partial}.lock`];
  assert.deepEqual(
    (await names(outputDir)).map((name) => join(outputDir, name)),
    left.sort(),
  );
  assert.equal(heard.length, 1, heard.join());
  assert.match(heard[0] ?? '', /20200101_000000.*Delete it when no backup is running/);
});

test('what is not ours by name, mark and owner stays', async () => {
  const made = async (name: string, mode = 0o700): Promise<string> => {
    await mkdir(join(base, name), { recursive: true });
    await chmod(join(base, name), mode);
    return join(base, name);
  };
  await made('tars-run-7-0000000g');
  await made('tars-run-7-00000001');
  await writeFile(join(await made('tars-run-7-00000002', 0o755), 'lock'), '');
  await writeFile(join(await made('elsewhere'), 'lock'), '');
  await symlink(join(base, 'elsewhere'), join(base, 'tars-run-7-00000003'));
  const before = await names(base);
  assert.deepEqual(await removeAbandonedScratch(base), { removed: [], failed: [] });
  assert.deepEqual(await names(base), before);
  assert.ok(await exists(join(base, 'elsewhere', 'lock')));
});

test('what versions up to 1.0.12 left is named when it is a day old, and stays', async () => {
  const old = new Date(Date.now() - 25 * 3_600_000);
  const left = ['archive-aB3dE6', 'chroma-aB3dE6', 'mirror-redis-k3j2h1g0', 'tars-command-aB3dE6'];
  for (const name of left) {
    await mkdir(join(base, name), { recursive: true, mode: 0o700 });
    await utimes(join(base, name), old, old);
  }
  const dump = join(base, 'redis-0123456789abcdef.rdb');
  await writeFile(dump, 'REDIS', { mode: 0o600 });
  await utimes(dump, old, old);
  await mkdir(join(base, 'chroma-zzzzzz'), { mode: 0o700 });
  await mkdir(join(base, 'chroma-public'), { mode: 0o755 });
  const found = await earlierScratch(base, new Date());
  assert.deepEqual([...found].sort(), [...left.map((name) => join(base, name)), dump].sort());
});
