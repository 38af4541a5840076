import assert from 'node:assert/strict';
import { execa } from 'execa';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { RepositoryLockedError } from '../../src/model/errors.ts';
import { parsePruneLimits, pruneRepository } from '../../src/operations/retention/prune.ts';
import type { OperationContext } from '../../src/ports/context.ts';
import { acquireLock } from '../../src/repository/lock/lock.ts';
import { removeLocks } from '../../src/repository/lock/lock-holders.ts';
import { openRepository, type OpenedRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { label, manifestOf } from '../fixtures/archives.ts';
import { cliPath, tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { eventually, processState } from '../fixtures/processes.ts';
import {
  password,
  publishSamples,
  RepositoryDirectory,
  writeSample,
  type Sample,
} from '../fixtures/repositories.ts';
import { stockRestics, type StockRestic } from '../fixtures/restic.ts';
import { forgetSnapshot } from '../fixtures/snapshot-history.ts';

const ctx = testContext();
const hourMs = 3_600_000;
const limits = parsePruneLimits({ maxUnused: '0' });
const stopWhenLocked = fileURLToPath(new URL('../fixtures/stop-when-locked.ts', import.meta.url));
const sample = (text: string): Sample => ({
  path: 'notes',
  content: Buffer.from(text.repeat(1000)),
  chunking: 'small',
});
const isLocked = (error: unknown): boolean => error instanceof RepositoryLockedError;

/** As {@link ctx} on a machine whose clock is off. */
const offBy = (ms: number): OperationContext => ({
  ...ctx,
  clock: {
    now: () => new Date(ctx.clock.now().getTime() + ms),
    monotonicMs: () => ctx.clock.monotonicMs(),
    sleep: (durationMs, signal) => ctx.clock.sleep(durationMs, signal),
  },
});

/** In an object, for the process itself is a promise of its end. */
interface Stopped {
  readonly child: ReturnType<typeof startTars>;
}

const startTars = (args: readonly string[]) =>
  execa(process.execPath, ['--import', stopWhenLocked, cliPath, ...args], {
    ...{ reject: false, all: true, stdin: 'ignore' },
    env: { TARS_PASSWORD: password, NO_COLOR: '1' },
  });

describe('every combination of locks, ours and those of stock restic', () => {
  let directory: RepositoryDirectory;
  let repo: OpenedRepository;
  let config: readonly string[];
  /** As on another machine, which knows of this one's runs only by the repository. */
  let elsewhere: readonly string[];
  let scratch: string;

  before(async () => {
    directory = await RepositoryDirectory.created();
    repo = await openRepository(createLocalStorage(directory.path), password, ctx);
    scratch = await mkdtemp(join(tmpdir(), 'tars-lock-matrix-'));
    const settings = {
      ...{ version: 1, stack: 'lab', scratch_dir: scratch, state_dir: join(scratch, 'state') },
      repository: { path: directory.path },
      components: { config: { files: ['app.env'] } },
    };
    const settingsPath = join(scratch, 'tars.yaml');
    await writeFile(settingsPath, stringify(settings), { mode: 0o600 });
    await writeFile(join(scratch, 'app.env'), 'LOG_LEVEL=info\n');
    config = ['--config', settingsPath];
    const elsewherePath = join(scratch, 'elsewhere.yaml');
    await writeFile(elsewherePath, stringify({ ...settings, state_dir: join(scratch, 'elsewhere') }));
    elsewhere = ['--config', elsewherePath];
    const { exitCode, stderr } = await tars([...config, 'backup'], { env: { TARS_PASSWORD: password } });
    assert.equal(exitCode, 0, stderr);
  });
  after(async () => {
    await directory[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true, force: true });
  });

  const lockNames = async (): Promise<string[]> =>
    (await readdir(join(directory.path, 'locks'))).filter((name) => /^[0-9a-f]{64}$/.test(name));

  /** Some garbage for a prune. */
  const makeGarbage = async (): Promise<void> => {
    await using store = await directory.store();
    const { summary } = await publishSamples(store, [sample(`garbage of ${performance.now()}\n`)]);
    await forgetSnapshot(directory, summary.id);
  };

  /** A `tars` that stands still with its lock taken. */
  const stopTars = async (...args: string[]): Promise<Stopped> => {
    assert.deepEqual(await lockNames(), []);
    const child = startTars([...config, ...args]);
    await eventually(
      `tars ${args.join(' ')} stops`,
      async () => (await processState(child.pid ?? 0)) === 'T',
    );
    assert.equal((await lockNames()).length, 1);
    return { child };
  };

  /** Lets it go on; it must not have noticed anything. */
  const proceed = async ({ child }: Stopped): Promise<void> => {
    child.kill('SIGCONT');
    const { exitCode, all } = await child;
    assert.equal(exitCode, 0, all);
    assert.deepEqual(await lockNames(), []);
  };

  const commands: Readonly<Record<string, readonly string[]>> = {
    backup: ['backup', import.meta.filename],
    forget: ['forget', '--group-by', '', '--keep-last', '100'],
    prune: ['prune'],
    check: ['check'],
  };
  const resticRefuses = async (stock: StockRestic, ...names: string[]): Promise<void> => {
    for (const name of names) {
      const work = directory.restic(commands[name] ?? assert.fail(name), { stock });
      await assert.rejects(work, /already locked/, `restic ${stock.version} ${name}`);
    }
  };

  test('while tars prunes nobody does anything; no unlock takes its lock', async () => {
    await makeGarbage();
    const stopped = await stopTars('prune');
    try {
      const held = await lockNames();
      for (const stock of stockRestics) {
        await resticRefuses(stock, 'backup', 'forget', 'prune', 'check');
        await directory.restic(['unlock'], { stock });
      }
      await using store = await directory.store();
      assert.equal(await store.unlock({ all: false }, ctx), 0);
      await assert.rejects(store.begin(label, ctx), isLocked);
      await assert.rejects(store.open('latest', undefined, ctx), isLocked);
      await assert.rejects(store.check({ readData: false }, ctx), isLocked);
      await assert.rejects(store.planPrune(limits, ctx), isLocked);
      const second = await tars([...elsewhere, 'prune'], { env: { TARS_PASSWORD: password } });
      assert.equal(second.exitCode, 11, second.stderr);
      assert.match(second.stderr, new RegExp(`locked exclusively by PID ${stopped.child.pid ?? 0} on`));
      assert.deepEqual(await lockNames(), held);
    } finally {
      await proceed(stopped);
    }
    for (const stock of stockRestics) await directory.restic(['check', '--read-data'], { stock });
  });

  for (const args of [['backup'], ['check', '--read-data'], ['restore', '--restore-config', '--yes']]) {
    test(`while tars does a ${args[0]} others back up, and nobody prunes`, async () => {
      const stopped = await stopTars(...args);
      try {
        for (const stock of stockRestics) {
          await directory.restic(commands['backup'] ?? [], { stock });
          await resticRefuses(stock, 'prune', 'forget');
          await directory.restic(['unlock'], { stock });
        }
        await using store = await directory.store();
        await publishSamples(store, [sample('beside another\n')]);
        await assert.rejects(store.planPrune(limits, ctx), isLocked);
        assert.equal((await lockNames()).length, 1);
      } finally {
        await proceed(stopped);
      }
    });
  }

  for (const stock of stockRestics) {
    test(`while restic ${stock.version} backs up we do, too, and prune nothing`, async () => {
      const env = { RESTIC_PASSWORD: password, RESTIC_REPOSITORY: directory.path };
      const child = execa(stock.path, ['--no-cache', 'backup', '--stdin'], { env });
      await using store = await directory.store();
      try {
        await eventually('the lock of restic', async () => (await lockNames()).length === 1);
        await assert.rejects(store.planPrune(limits, ctx), isLocked);
        await assert.rejects(store.removeKey('00', ctx), isLocked);
        await publishSamples(store, [sample('beside restic\n')]);
        assert.deepEqual((await store.check({ readData: false }, ctx)).findings, []);
        assert.equal(await store.unlock({ all: false }, ctx), 0);
      } finally {
        child.stdin.end('some text');
        await child;
      }
      await (await store.planPrune(limits, ctx))[Symbol.asyncDispose]();
    });

    test(`while restic ${stock.version} prunes or forgets we do nothing`, async () => {
      for (const name of ['prune', 'forget']) {
        await makeGarbage();
        const env = { RESTIC_PASSWORD: password, RESTIC_REPOSITORY: directory.path };
        const child = execa(stock.path, ['--no-cache', ...(commands[name] ?? [])], { env, reject: false });
        await eventually('the lock of restic', async () => (await lockNames()).length === 1);
        child.kill('SIGSTOP');
        assert.equal((await lockNames()).length, 1, 'restic was stopped too late');
        try {
          await using store = await directory.store();
          await assert.rejects(store.begin(label, ctx), isLocked);
          await assert.rejects(store.open('latest', undefined, ctx), isLocked);
          await assert.rejects(store.planPrune(limits, ctx), isLocked);
          assert.equal(await store.unlock({ all: false }, ctx), 0);
        } finally {
          child.kill('SIGCONT');
        }
        assert.equal((await child).exitCode, 0);
      }
    });
  }

  test('both tools hold the same locks for stale', async () => {
    const living = execa('sh', ['-c', 'trap "" HUP; echo ready; read line'], { reject: false });
    await once(living.stdout, 'data');
    const here = { hostname: hostname(), ageMs: 0 };
    const cases = {
      'a living process of this host': { ...here, pid: living.pid ?? 0 },
      'a dead process of this host': { ...here, pid: spawnSync('true').pid },
      'another host': { hostname: 'elsewhere', pid: 4711, ageMs: 29 * 60_000 },
      'another host, half an hour ago': { hostname: 'elsewhere', pid: 4711, ageMs: 31 * 60_000 },
      'another host whose clock is hours behind': { hostname: 'elsewhere', pid: 4711, ageMs: 3 * hourMs },
      'another host whose clock is hours ahead': { hostname: 'elsewhere', pid: 4711, ageMs: -3 * hourMs },
    };
    const save = async (): Promise<Map<string, string>> => {
      const names = new Map<string, string>();
      for (const [what, { ageMs, ...holder }] of Object.entries(cases)) {
        const time = new Date(ctx.clock.now().getTime() - ageMs).toISOString();
        const lock = { time, exclusive: true, username: 'ann', ...holder };
        names.set(await repo.saveUnpacked('locks', JSON.stringify(lock), ctx.signal), what);
      }
      return names;
    };
    const unlocks: readonly (() => Promise<unknown>)[] = [
      () => removeLocks(repo, { all: false }, ctx),
      ...stockRestics.map((stock) => () => directory.restic(['unlock'], { stock })),
    ];
    try {
      for (const unlock of unlocks) {
        const names = await save();
        await unlock();
        assert.deepEqual((await lockNames()).map((name) => names.get(name)).sort(), [
          'a living process of this host',
          'another host',
          'another host whose clock is hours ahead',
        ]);
        assert.equal(await removeLocks(repo, { all: true }, ctx), 3);
      }
    } finally {
      living.stdin.end();
      await living;
    }
  });

  describe('a clock that is hours off', () => {
    test('behind: restic respects the lock; once it takes it away, a prune deletes nothing more', async () => {
      await makeGarbage();
      const packs = join(directory.path, 'data');
      await mkdir(join(packs, '00'), { recursive: true });
      await writeFile(join(packs, '00', '0'.repeat(64)), 'left over by an interrupted run');
      await using store = await directory.store();
      for (const stock of stockRestics) {
        await using plan = await store.planPrune(limits, offBy(-3 * hourMs));
        await resticRefuses(stock, 'backup', 'prune');
        const before = await readdir(packs, { recursive: true });
        await directory.restic(['unlock'], { stock });
        assert.deepEqual(await lockNames(), []);
        await assert.rejects(plan.execute(ctx), isLocked);
        assert.deepEqual(await readdir(packs, { recursive: true }), before);
      }
      const { done } = await pruneRepository(store, limits, { dryRun: false }, ctx);
      assert.ok((done?.removedPacks ?? 0) > 0);
    });

    test('behind: once restic takes the lock away, a backup publishes nothing', async () => {
      await using store = await directory.store();
      const before = await store.list(ctx);
      await using writer = await store.begin(label, offBy(-3 * hourMs));
      const artifact = await writeSample(writer, sample('under a lock that is lost\n'));
      await directory.restic(['unlock']);
      await directory.restic(['prune', '--max-unused', '0']);
      await assert.rejects(writer.publish(manifestOf([artifact]), ctx), isLocked);
      assert.deepEqual(await store.list(ctx), before);
    });

    test('ahead: restic respects the lock, and does not take it away', async () => {
      await using held = await acquireLock(repo, { exclusive: true }, offBy(3 * hourMs));
      for (const stock of stockRestics) {
        await resticRefuses(stock, 'backup');
        await directory.restic(['unlock'], { stock });
      }
      await held.confirm();
    });
  });

  test('of two of ours that begin at once no two prune at a time, and nothing is lost', async () => {
    await makeGarbage();
    await using first = await directory.store();
    await using second = await directory.store();
    const ends = await Promise.allSettled(
      [first, second].map((store) => pruneRepository(store, limits, { dryRun: false }, ctx)),
    );
    const freed = ends.filter((end) => end.status === 'fulfilled' && (end.value.done?.removedPacks ?? 0) > 0);
    assert.ok(freed.length <= 1);
    for (const end of ends)
      if (end.status === 'rejected') assert.ok(isLocked(end.reason), String(end.reason));
    await pruneRepository(first, limits, { dryRun: false }, ctx);
    assert.deepEqual((await first.check({ readData: true }, ctx)).findings, []);
    assert.deepEqual(await lockNames(), []);
  });
});
