import assert from 'node:assert/strict';
import { execa } from 'execa';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createChromaComponent } from '../../src/components/chroma/index.ts';
import { LockProcess } from '../../src/components/chroma/physical/lock-process.ts';
import { SafeCopy } from '../../src/components/chroma/physical/safe-copy.ts';
import { inspectedCopy } from '../../src/components/chroma/physical/capture.ts';
import { TarsError } from '../../src/model/errors.ts';
import { loadedChroma, type LoadedChroma } from '../fixtures/chroma-directory.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
let chroma: LoadedChroma;
let scratch: string;
let sqlite: string;
before(async () => {
  chroma = await loadedChroma(200, 5);
  scratch = join(chroma.root, 'scratch');
  sqlite = join(chroma.server.dataDir, 'chroma.sqlite3');
});
after(() => chroma[Symbol.asyncDispose]());

const failsWith =
  (code: string, pattern: RegExp) =>
  (error: unknown): boolean =>
    error instanceof TarsError && error.code === code && pattern.test(`${error.message} ${error.hint ?? ''}`);

async function pollUntil(condition: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, what);
    await delay(20);
  }
}

test('under the lock nobody else may write, and Chroma writes on after it', async () => {
  await using copy = await SafeCopy.prepare(chroma.server.dataDir, scratch, ctx);
  await using other = await LockProcess.start(sqlite);
  assert.equal(await other.isLockedByOthers(), false);
  await copy.lock(3000, ctx);
  assert.equal(await other.isLockedByOthers(), true);
  assert.equal(await other.lock(50, 1000), false);
  const order: string[] = [];
  const written = chroma.load.writeOnce().then(() => order.push('written'));
  assert.equal(await copy.finish(ctx), 'copied');
  order.push('released');
  await written;
  assert.deepEqual(order, ['released', 'written']);
  assert.equal(await other.isLockedByOthers(), false);
  assert.ok(copy.writesBlockedMs > 0);
});

test('the copy is discarded and taken again when the lock was lost with its process', async () => {
  await using copy = await SafeCopy.prepare(chroma.server.dataDir, scratch, ctx);
  await copy.lock(3000, ctx);
  process.kill(copy.holderPid!, 'SIGKILL');
  await using other = await LockProcess.start(sqlite);
  await pollUntil(async () => !(await other.isLockedByOthers()), 'the lock outlived its process');
  const { first } = await inspectedCopy(copy, 'chroma', ctx);
  assert.equal(first, false);
});

test('a copy that outlasts the bound of the lock is discarded', async () => {
  await using holder = await LockProcess.start(sqlite);
  await using other = await LockProcess.start(sqlite);
  assert.equal(await holder.lock(3000, 20), true);
  await pollUntil(async () => !(await other.isLockedByOthers()), 'the lock never expired');
  assert.equal(await holder.release(), false);
});

test('kill -9 of the capturing process frees the lock', async () => {
  const module = new URL('../../src/components/chroma/physical/lock-process.ts', import.meta.url).href;
  const script = `const { LockProcess } = await import(${JSON.stringify(module)});
    const holder = await LockProcess.start(${JSON.stringify(sqlite)});
    console.log(await holder.lock(3000, 60000) ? 'locked' : 'busy');
    setInterval(() => undefined, 1000);`;
  const parent = execa(process.execPath, ['--input-type=module', '-e', script], {
    reject: false,
    stdin: 'ignore',
    stderr: 'ignore',
  });
  const [line] = (await once(parent.stdout, 'data')) as [Buffer];
  assert.equal(line.toString(), 'locked\n');
  await using other = await LockProcess.start(sqlite);
  assert.equal(await other.isLockedByOthers(), true);
  parent.kill('SIGKILL');
  await parent;
  await pollUntil(async () => !(await other.isLockedByOthers()), 'the lock outlived the killed process');
});

test('a mark behind a writer that does not finish fails, and leaves no lock', async () => {
  await using writer = await LockProcess.start(sqlite);
  await using copy = await SafeCopy.prepare(chroma.server.dataDir, scratch, ctx);
  assert.equal(await writer.lock(3000, 60_000), true);
  await assert.rejects(
    copy.lock(50, ctx),
    failsWith('capture-failed', /Other programs wrote to .* without a gap for 50 ms/),
  );
  assert.equal(await writer.release(), true);
  assert.equal(await writer.isLockedByOthers(), false);
});

test('an abandoned mark gives its lock back', async () => {
  await using copy = await SafeCopy.prepare(chroma.server.dataDir, scratch, ctx);
  const late = new AbortController();
  const marked = copy.lock(3000, { ...ctx, signal: late.signal });
  late.abort();
  await assert.rejects(marked);
  await using other = await LockProcess.start(sqlite);
  assert.equal(await other.isLockedByOthers(), false);
});

test('a directory without chroma.sqlite3 is an error that names the moved path', async (t) => {
  const empty = await mkdtemp(join(tmpdir(), 'tars-empty-'));
  t.after(() => rm(empty, { recursive: true, force: true }));
  const component = createChromaComponent({
    name: 'chroma',
    service: undefined,
    url: undefined,
    headers: {},
    path: empty,
    scratchDir: scratch,
  });
  const refused = failsWith('capture-failed', /no chroma\.sqlite3 .*\/chroma\/chroma to \/data/);
  await assert.rejects(component.prepare(ctx), refused);
  await assert.rejects(component.probe(ctx), refused);
  await assert.rejects(component.ready(ctx), failsWith('service-unavailable', /not created/));
  assert.deepEqual(await readdir(empty), []);
});

test('WAL mode is refused', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'tars-wal-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const database = new DatabaseSync(join(directory, 'chroma.sqlite3'));
  database.exec('PRAGMA journal_mode=WAL; CREATE TABLE t(x)');
  database.close();
  await assert.rejects(SafeCopy.prepare(directory, scratch, ctx), failsWith('capture-failed', /WAL mode/));
});

test('nothing stays in the scratch directory', async () => {
  assert.deepEqual(await readdir(scratch), []);
});
