import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { hostname, uptime } from 'node:os';
import { before, test } from 'node:test';
import { createWithCheapKey } from '../../../test/fixtures/cheap-key.ts';
import { MemoryStorage } from '../../../test/fixtures/storage.ts';
import { testContext } from '../../../test/fixtures/context.ts';
import { InterruptedError, RepositoryLockedError, TarsError } from '../../model/errors.ts';
import type { Clock, OperationContext } from '../../ports/context.ts';
import type { StorageFile } from '../../ports/storage.ts';
import { machineId, ownPidPlace, processStartOf } from '../../disk/process-identity.ts';
import { acquireLock } from './lock.ts';
import { removeLocks } from './lock-holders.ts';
import { loadLock } from './lock-file.ts';
import { openRepository, type OpenedRepository } from '../open.ts';

const minuteMs = 60_000;

/** Time moves only when a test says so, except that waits of up to a second pass at once while acquiring. */
class ManualClock implements Clock {
  #nowMs = Date.parse('2026-11-24T08:00:00Z');
  #sleepers: { untilMs: number; wake: () => void }[] = [];
  /** Sleeps up to this long end at once. */
  instantMs = 500;

  /** How far the time of day is off. */
  offByMs = 0;

  now(): Date {
    return new Date(this.#nowMs + this.offByMs);
  }
  monotonicMs(): number {
    return this.#nowMs;
  }
  sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(new InterruptedError());
    if (ms <= this.instantMs) return Promise.resolve();
    return new Promise((wake, reject) => {
      this.#sleepers.push({ untilMs: this.#nowMs + ms, wake });
      signal.addEventListener('abort', () => reject(new InterruptedError()), { once: true });
    });
  }
  /** Steps of a second, letting everything that was woken settle in between. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    while (this.#nowMs < endMs) {
      this.#nowMs = Math.min(endMs, this.#nowMs + 1000);
      const due = this.#sleepers.filter(({ untilMs }) => untilMs <= this.#nowMs);
      this.#sleepers = this.#sleepers.filter(({ untilMs }) => untilMs > this.#nowMs);
      for (const { wake } of due) wake();
      // One turn of the event loop runs every chain of promises that needs no I/O.
      await new Promise(setImmediate);
    }
  }
}

/** Fails chosen calls while a test asks it to. */
class MoodyStorage extends MemoryStorage {
  failSaves = false;
  isFull = false;
  override save(file: StorageFile, content: readonly Uint8Array[], signal: AbortSignal): Promise<void> {
    if (this.isFull) return Promise.reject(new TarsError('no-space', 'Injected', { hint: 'Free space' }));
    if (this.failSaves) return Promise.reject(new TarsError('storage-failed', 'Injected'));
    return super.save(file, content, signal);
  }
}

interface Bench {
  readonly storage: MoodyStorage;
  readonly repo: OpenedRepository;
  readonly clock: ManualClock;
  readonly ctx: OperationContext;
}

const origin = new MoodyStorage();
before(async () => {
  await createWithCheapKey(origin, 'secret', testContext());
});

async function bench(): Promise<Bench> {
  const storage = new MoodyStorage(origin.files);
  const repo = await openRepository(storage, 'secret', testContext());
  const clock = new ManualClock();
  return { storage, repo, clock, ctx: { ...testContext(), clock } };
}

const lockNames = ({ storage }: Bench): string[] =>
  [...storage.files.keys()].filter((key) => key.startsWith('locks/')).map((key) => key.slice(6));
const isLocked = (error: unknown): boolean => error instanceof RepositoryLockedError;

interface Foreign {
  readonly exclusive?: boolean;
  readonly pid?: number;
  readonly hostname?: string;
  readonly ageMs?: number;
  /** What tars adds. */
  readonly tars?: Readonly<Record<string, string>>;
}
const saveForeign = ({ repo, clock, ctx }: Bench, lock: Foreign): Promise<string> =>
  repo.saveUnpacked(
    'locks',
    JSON.stringify({
      time: new Date(clock.now().getTime() - (lock.ageMs ?? 0)).toISOString(),
      exclusive: lock.exclusive ?? false,
      hostname: lock.hostname ?? 'elsewhere',
      username: 'ann',
      pid: lock.pid ?? 4711,
      ...(lock.tars === undefined ? {} : { tars: lock.tars }),
    }),
    ctx.signal,
  );
const deadPid = (): number => spawnSync('true').pid;
const here = (): Record<string, string> => ({
  ...(ownPidPlace() ?? assert.fail('/proc does not tell')),
  processStart: '1',
  machineId: machineId(),
});
/** With what it said meanwhile. */
const acquireHeard = async (b: Bench): Promise<readonly string[]> => {
  const heard: string[] = [];
  const log = { ...b.ctx.log, warn: (text: string) => heard.push(text) };
  await using held = await acquireLock(b.repo, { exclusive: true }, { ...b.ctx, log });
  assert.equal(held.signal.aborted, false);
  return heard;
};

test('on a full disk the lock for removing says how to get one; a shared one is as any other file', async () => {
  const b = await bench();
  b.storage.isFull = true;
  const hintOf = async (exclusive: boolean): Promise<string> => {
    const error: unknown = await acquireLock(b.repo, { exclusive }, b.ctx).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof TarsError && error.code === 'no-space');
    return error.hint ?? '';
  };
  assert.match(await hintOf(true), /must write a lock file .*never a file of the repository.*as root/);
  assert.equal(await hintOf(false), 'Free space');
});

test('a held lock names this process and goes with its release', async () => {
  const b = await bench();
  {
    await using held = await acquireLock(b.repo, { exclusive: true }, b.ctx);
    assert.equal(held.signal.aborted, false);
    const [name] = lockNames(b);
    const lock = await loadLock(b.repo, name ?? '', b.ctx.signal);
    assert.equal(lock.pid, process.pid);
    assert.equal(lock.hostname, hostname());
    assert.equal(lock.exclusive, true);
    assert.equal(lock.time, b.clock.now().toISOString());
  }
  assert.deepEqual(lockNames(b), []);
});

test('shared locks go together, an exclusive one goes with none', async () => {
  const b = await bench();
  {
    await using first = await acquireLock(b.repo, { exclusive: false }, b.ctx);
    await using second = await acquireLock(b.repo, { exclusive: false }, b.ctx);
    assert.ok(!first.signal.aborted && !second.signal.aborted);
    await assert.rejects(acquireLock(b.repo, { exclusive: true }, b.ctx), isLocked);
    assert.equal(lockNames(b).length, 2);
  }
  await using exclusive = await acquireLock(b.repo, { exclusive: true }, b.ctx);
  assert.ok(!exclusive.signal.aborted);
  await assert.rejects(acquireLock(b.repo, { exclusive: false }, b.ctx), isLocked);
  assert.equal(lockNames(b).length, 1);
});

test('a conflict names host, process and age, and says what to do', async () => {
  const b = await bench();
  await saveForeign(b, { exclusive: true, hostname: 'farm', pid: 99, ageMs: 3 * minuteMs });
  await assert.rejects(acquireLock(b.repo, { exclusive: false }, b.ctx), (error) => {
    assert.ok(error instanceof RepositoryLockedError);
    assert.match(error.message, /locked exclusively by PID 99 on farm \(user ann, refreshed 3 min ago\)/);
    assert.match(error.hint ?? '', /tars unlock/);
    return true;
  });
});

test('a lock written at the same moment is seen by the second look, and ours goes again', async () => {
  const b = await bench();
  const clock = Object.create(b.clock) as ManualClock;
  clock.now = () => b.clock.now();
  clock.sleep = async () => {
    await saveForeign(b, { exclusive: true });
  };
  await assert.rejects(acquireLock(b.repo, { exclusive: false }, { ...b.ctx, clock }), isLocked);
  assert.equal(lockNames(b).length, 1);
  assert.equal(process.listenerCount('SIGHUP'), 0);
});

test('a damaged lock refuses and points at unlock --all, an empty file does not count', async () => {
  const b = await bench();
  b.storage.files.set(`locks/${'ab'.repeat(32)}`, new Uint8Array(0));
  await (await acquireLock(b.repo, { exclusive: true }, b.ctx))[Symbol.asyncDispose]();
  b.storage.files.set(`locks/${'cd'.repeat(32)}`, new Uint8Array(40));
  await assert.rejects(acquireLock(b.repo, { exclusive: false }, b.ctx), (error) => {
    assert.ok(error instanceof RepositoryLockedError);
    assert.match(error.hint ?? '', /unlock --all/);
    return true;
  });
  assert.equal(await removeLocks(b.repo, { all: false }, b.ctx), 0);
  assert.equal(await removeLocks(b.repo, { all: true }, b.ctx), 2);
});

test('a lock is refreshed every five minutes by a new file, the old one removed', async () => {
  const b = await bench();
  await using held = await acquireLock(b.repo, { exclusive: false }, b.ctx);
  for (let round = 0; round < 12; round += 1) {
    const before = lockNames(b);
    await b.clock.advance(5 * minuteMs + 3000);
    const after = lockNames(b);
    assert.equal(after.length, 1);
    assert.notDeepEqual(after, before);
    const lock = await loadLock(b.repo, after[0] ?? '', b.ctx.signal);
    assert.ok(b.clock.now().getTime() - Date.parse(lock.time) < minuteMs);
  }
  assert.equal(held.signal.aborted, false);
});

test('a refresh that fails is tried again, and the lock survives when it works in time', async () => {
  const b = await bench();
  await using held = await acquireLock(b.repo, { exclusive: false }, b.ctx);
  b.storage.failSaves = true;
  await b.clock.advance(20 * minuteMs);
  assert.equal(held.signal.aborted, false);
  b.storage.failSaves = false;
  await b.clock.advance(minuteMs);
  b.storage.failSaves = true;
  await b.clock.advance(20 * minuteMs);
  assert.equal(held.signal.aborted, false);
});

test('the signal aborts before others may call a lock stale that cannot be refreshed', async () => {
  const b = await bench();
  await using held = await acquireLock(b.repo, { exclusive: false }, b.ctx);
  b.storage.failSaves = true;
  await b.clock.advance(24 * minuteMs);
  assert.ok(held.signal.aborted);
  assert.ok(isLocked(held.signal.reason));
});

test('the signal aborts when somebody removed the lock', async () => {
  const b = await bench();
  await using held = await acquireLock(b.repo, { exclusive: false }, b.ctx);
  assert.equal(await removeLocks(b.repo, { all: true }, b.ctx), 1);
  await b.clock.advance(6 * minuteMs);
  assert.ok(held.signal.aborted);
  assert.match((held.signal.reason as Error).message, /Someone else removed it/);
  assert.deepEqual(lockNames(b), []);
});

test('that somebody removed the lock is known at once when it is confirmed', async () => {
  const b = await bench();
  await using held = await acquireLock(b.repo, { exclusive: true }, b.ctx);
  await held.confirm();
  await b.clock.advance(6 * minuteMs);
  await held.confirm();
  assert.equal(await removeLocks(b.repo, { all: true }, b.ctx), 1);
  assert.equal(held.signal.aborted, false);
  await assert.rejects(held.confirm(), isLocked);
  assert.ok(isLocked(held.signal.reason));
  await assert.rejects(held.confirm(), isLocked);
});

test('a clock that is put hours forward or back loses no lock', async () => {
  for (const offByMs of [3 * 60 * minuteMs, -3 * 60 * minuteMs]) {
    const b = await bench();
    await using held = await acquireLock(b.repo, { exclusive: false }, b.ctx);
    b.clock.offByMs = offByMs;
    await b.clock.advance(12 * minuteMs);
    await held.confirm();
    const [name = ''] = lockNames(b);
    const { time } = await loadLock(b.repo, name, b.ctx.signal);
    assert.ok(b.clock.now().getTime() - Date.parse(time) < 6 * minuteMs, `refreshed at ${time}`);
  }
});

test("the signal aborts with the operation's, and the lock still goes", async () => {
  const b = await bench();
  const controller = new AbortController();
  const ctx = { ...b.ctx, signal: controller.signal };
  {
    await using held = await acquireLock(b.repo, { exclusive: false }, ctx);
    controller.abort(new InterruptedError());
    assert.ok(held.signal.aborted);
  }
  assert.deepEqual(lockNames(b), []);
});

test('SIGHUP does not kill the holder, and its handler goes with the last lock', async () => {
  const b = await bench();
  assert.equal(process.listenerCount('SIGHUP'), 0);
  const first = await acquireLock(b.repo, { exclusive: false }, b.ctx);
  const second = await acquireLock(b.repo, { exclusive: false }, b.ctx);
  await first[Symbol.asyncDispose]();
  await first[Symbol.asyncDispose]();
  assert.equal(process.listenerCount('SIGHUP'), 1);
  await second[Symbol.asyncDispose]();
  assert.equal(process.listenerCount('SIGHUP'), 0);
});

test('unlock removes locks of dead processes of this host and old ones, and no others', async () => {
  const b = await bench();
  const here = hostname();
  const alive = await saveForeign(b, { hostname: here, pid: process.pid });
  const otherUser = await saveForeign(b, { hostname: here, pid: 1 });
  const remote = await saveForeign(b, { pid: deadPid(), ageMs: 29 * minuteMs });
  await saveForeign(b, { hostname: here, pid: deadPid() });
  await saveForeign(b, { ageMs: 31 * minuteMs });
  assert.equal(await removeLocks(b.repo, { all: false }, b.ctx), 2);
  assert.deepEqual(lockNames(b).sort(), [alive, otherUser, remote].sort());
  assert.equal(await removeLocks(b.repo, { all: true }, b.ctx), 3);
});

test('a lock says enough to tell its process from every other one', async () => {
  const b = await bench();
  await using _held = await acquireLock(b.repo, { exclusive: true }, b.ctx);
  const lock = await loadLock(b.repo, lockNames(b)[0] ?? '', b.ctx.signal);
  assert.deepEqual(lock.tars, { ...here(), processStart: processStartOf(process.pid) });
  assert.notEqual(lock.tars.processStart, '');
});

test('a lock whose process has ended is removed by whoever meets it, and that is reported once', async () => {
  const gone: readonly Foreign[] = [
    { pid: deadPid(), tars: here() },
    // The pid is another process's by now.
    { pid: process.pid, tars: here() },
    // A container on the same kernel: tars gives up before its lock is as old as that.
    { ageMs: 31 * minuteMs, tars: { ...here(), pidNamespace: '1' } },
    // Of restic, or of an older tars: a live one had refreshed it.
    { hostname: hostname(), pid: deadPid(), ageMs: 16 * minuteMs },
  ];
  for (const lock of gone) {
    const b = await bench();
    await saveForeign(b, { exclusive: true, ...lock });
    const heard = await acquireHeard(b);
    assert.equal(heard.length, 1, heard.join());
    assert.match(
      heard[0] ?? '',
      /^Removed the lock that PID \d+ on \S+ \(.*\) left: that process has ended$/,
    );
    assert.deepEqual(await acquireHeard(b), []);
  }
});

test('a lock stays when nothing here proves that its process has ended', async () => {
  const alive: readonly Foreign[] = [
    { pid: process.pid, tars: { ...here(), processStart: processStartOf(process.pid) } },
    // Another pid namespace, whatever its host is called and whatever is below that pid here.
    { hostname: hostname(), pid: deadPid(), ageMs: 29 * minuteMs, tars: { ...here(), pidNamespace: '1' } },
    // Another kernel.
    {
      hostname: hostname(),
      pid: deadPid(),
      ageMs: 29 * minuteMs,
      tars: { ...here(), bootId: 'x', machineId: 'y' },
    },
    {
      hostname: hostname(),
      pid: deadPid(),
      ageMs: 29 * minuteMs,
      tars: { ...here(), bootId: 'x', machineId: '' },
    },
    { pid: deadPid(), ageMs: 90 * minuteMs, tars: { ...here(), bootId: 'x' } },
    // restic in a container that has the network, and with it the name, of this host.
    { hostname: hostname(), pid: deadPid(), ageMs: 14 * minuteMs },
    { pid: deadPid(), ageMs: 90 * minuteMs },
  ];
  for (const lock of alive) {
    const b = await bench();
    const name = await saveForeign(b, { exclusive: true, ...lock });
    await assert.rejects(acquireLock(b.repo, { exclusive: false }, b.ctx), isLocked, JSON.stringify(lock));
    assert.deepEqual(lockNames(b), [name]);
  }
});

test('a lock of before this machine was started again is removed', async () => {
  const b = await bench();
  // Whenever that was: by the manual clock it was a moment ago.
  await saveForeign(b, {
    hostname: hostname(),
    ageMs: uptime() * 1000 + minuteMs,
    tars: { ...here(), bootId: 'x' },
  });
  assert.equal((await acquireHeard(b)).length, 1);
});

test("where nothing can be deleted, a lock of an ended process is in nobody's way", async () => {
  const b = await bench();
  const name = await saveForeign(b, { exclusive: true, pid: deadPid(), tars: here() });
  const remove = b.storage.remove.bind(b.storage);
  b.storage.remove = (file, signal) =>
    file.name === name ? Promise.reject(new TarsError('access-denied', 'Append-only')) : remove(file, signal);
  const [said = ''] = await acquireHeard(b);
  assert.match(said, /^Ignored the lock .* cannot be removed: Append-only$/);
  assert.deepEqual(lockNames(b), [name]);
});

test('unlock leaves the lock of another pid namespace alone until it is old', async () => {
  const b = await bench();
  const tars = { ...here(), pidNamespace: '1' };
  const kept = await saveForeign(b, { hostname: hostname(), pid: deadPid(), ageMs: 29 * minuteMs, tars });
  await saveForeign(b, { hostname: hostname(), pid: deadPid(), ageMs: 31 * minuteMs, tars });
  assert.equal(await removeLocks(b.repo, { all: false }, b.ctx), 1);
  assert.deepEqual(lockNames(b), [kept]);
});
