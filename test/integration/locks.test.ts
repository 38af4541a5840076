import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { RepositoryLockedError } from '../../src/model/errors.ts';
import { acquireLock } from '../../src/repository/lock/lock.ts';
import { removeLocks } from '../../src/repository/lock/lock-holders.ts';
import { openRepository, type OpenedRepository } from '../../src/repository/open.ts';
import { systemClock } from '../../src/runtimes/system-clock.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { createWithCheapKey } from '../fixtures/cheap-key.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
const password = 'correct horse';
const holderSource = `
  import { acquireLock } from '${import.meta.resolve('../../src/repository/lock/lock.ts')}';
  import { openRepository } from '${import.meta.resolve('../../src/repository/open.ts')}';
  import { createLocalStorage } from '${import.meta.resolve('../../src/storage/local/local-storage.ts')}';
  import { testContext } from '${import.meta.resolve('../fixtures/context.ts')}';
  const ctx = testContext();
  const repo = await openRepository(createLocalStorage(process.env.RESTIC_REPOSITORY), process.env.RESTIC_PASSWORD, ctx);
  const held = await acquireLock(repo, { exclusive: process.env.EXCLUSIVE === '1' }, ctx);
  console.log('held');
  for await (const _ of process.stdin);
  console.log(held.signal.aborted ? 'lost' : 'kept');
  await held[Symbol.asyncDispose]();
`;

/** A process whose end, however it ends, is no error. */
const start = (file: string, args: readonly string[], env: Record<string, string>) =>
  execa(file, args, { env, reject: false });

/** In an object, for the process itself is a promise of its end. */
interface Holder {
  readonly child: ReturnType<typeof start>;
}

describe('locks beside stock restic', () => {
  let directory: string;
  let repo: OpenedRepository;
  let env: Record<string, string>;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tars-locks-'));
    const location = join(directory, 'repository');
    env = { RESTIC_REPOSITORY: location, RESTIC_PASSWORD: password };
    repo = await createWithCheapKey(createLocalStorage(location), password, ctx);
    await restic('backup', join(import.meta.dirname, 'locks.test.ts'));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  const restic = (...args: string[]) => execa('restic', ['--no-cache', ...args], { env });
  const refusal = (...args: string[]) =>
    execa('restic', ['--no-cache', ...args], { env, reject: false }).then(({ exitCode, stderr }) => {
      assert.notEqual(exitCode, 0, `restic ${args.join(' ')} should have refused`);
      return stderr;
    });
  const lockNames = (): Promise<string[]> => readdir(join(directory, 'repository', 'locks'));
  const until = async (what: string, condition: () => Promise<boolean>): Promise<void> => {
    const deadlineMs = systemClock.monotonicMs() + 20_000;
    while (!(await condition())) {
      assert.ok(systemClock.monotonicMs() < deadlineMs, `${what} did not happen`);
      await systemClock.sleep(2, ctx.signal);
    }
  };

  /** A process of ours that holds a lock until its standard input closes. */
  const startHolder = async (exclusive: boolean): Promise<Holder> => {
    const child = start(process.execPath, ['--input-type=module', '--eval', holderSource], {
      ...env,
      EXCLUSIVE: exclusive ? '1' : '0',
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    assert.equal(line.toString(), 'held\n');
    return { child };
  };

  /** restic, stopped by SIGSTOP right after it wrote its lock. */
  const stopHoldingLock = async (...args: string[]): Promise<Holder> => {
    assert.deepEqual(await lockNames(), []);
    const child = start('restic', ['--no-cache', ...args], env);
    const isLock = (name: string): boolean => /^[0-9a-f]{64}$/.test(name);
    await until('the lock of restic', async () => (await lockNames()).some(isLock));
    child.kill('SIGSTOP');
    assert.equal((await lockNames()).filter(isLock).length, 1, 'restic was stopped too late');
    return { child };
  };

  test('restic prunes nothing while we hold a shared lock, but backs up', async () => {
    {
      await using held = await acquireLock(repo, { exclusive: false }, ctx);
      assert.match(await refusal('prune'), /already locked by PID/);
      assert.match(await refusal('forget', '--keep-last', '1', '--prune'), /already locked by PID/);
      await restic('backup', join(import.meta.dirname, 'locks.test.ts'));
      assert.equal((await lockNames()).length, 1);
      assert.equal(held.signal.aborted, false);
    }
    await restic('prune');
  });

  test('restic does not even back up while we hold an exclusive lock, and shows its holder', async () => {
    await using held = await acquireLock(repo, { exclusive: true }, ctx);
    const message = await refusal('backup', join(import.meta.dirname, 'locks.test.ts'));
    assert.match(message, /already locked exclusively/);
    assert.match(message, new RegExp(`PID ${process.pid} on ${hostname()}`));
    assert.equal(held.signal.aborted, false);
  });

  test('we refuse while restic holds an exclusive lock, and go on once it has finished', async () => {
    const { child } = await stopHoldingLock('check');
    try {
      await assert.rejects(acquireLock(repo, { exclusive: false }, ctx), (error) => {
        assert.ok(error instanceof RepositoryLockedError);
        assert.match(
          error.message,
          new RegExp(`locked exclusively by PID ${child.pid ?? 0} on ${hostname()}`),
        );
        return true;
      });
      assert.equal(await removeLocks(repo, { all: false }, ctx), 0);
    } finally {
      child.kill('SIGCONT');
    }
    assert.equal((await child).exitCode, 0);
    await using held = await acquireLock(repo, { exclusive: false }, ctx);
    assert.equal(held.signal.aborted, false);
  });

  test('a shared lock of restic excludes only an exclusive one of ours', async () => {
    const child = execa('restic', ['--no-cache', 'backup', '--stdin'], { env });
    await until('the lock of restic', async () => (await lockNames()).length === 1);
    {
      await using held = await acquireLock(repo, { exclusive: false }, ctx);
      assert.equal(held.signal.aborted, false);
    }
    await assert.rejects(acquireLock(repo, { exclusive: true }, ctx), RepositoryLockedError);
    child.stdin.end('some text');
    await child;
  });

  test('the lock of a restic that was killed is removed by our unlock', async () => {
    const { child } = await stopHoldingLock('check');
    child.kill('SIGKILL');
    await child;
    await assert.rejects(acquireLock(repo, { exclusive: false }, ctx), (error) => {
      assert.match((error as RepositoryLockedError).hint ?? '', /holder seems to have ended/);
      return true;
    });
    assert.equal(await removeLocks(repo, { all: false }, ctx), 1);
    await using held = await acquireLock(repo, { exclusive: true }, ctx);
    assert.equal(held.signal.aborted, false);
  });

  test('the lock of a process of ours that was killed is removed by either unlock', async () => {
    for (const unlock of [() => removeLocks(repo, { all: false }, ctx), () => restic('unlock')]) {
      const { child } = await startHolder(true);
      child.kill('SIGKILL');
      await child;
      assert.equal((await lockNames()).length, 1);
      await unlock();
      assert.deepEqual(await lockNames(), []);
    }
  });

  test('neither unlock harms a holder that lives', async () => {
    const { child } = await startHolder(false);
    await restic('unlock');
    assert.equal(await removeLocks(repo, { all: false }, ctx), 0);
    assert.equal((await lockNames()).length, 1);
    child.stdin.end();
    const { stdout, exitCode } = await child;
    assert.equal(exitCode, 0);
    assert.match(stdout, /kept/);
    assert.deepEqual(await lockNames(), []);
  });

  test('restic reads what our lock says', async () => {
    await using held = await acquireLock(repo, { exclusive: false }, ctx);
    const [name = ''] = await lockNames();
    const { stdout } = await restic('cat', 'lock', name, '--no-lock');
    const lock = JSON.parse(stdout) as Record<string, unknown>;
    assert.equal(lock.pid, process.pid);
    assert.equal(lock.exclusive, false);
    const again = await openRepository(repo.storage, password, ctx);
    assert.equal(again.id, repo.id);
    assert.equal(held.signal.aborted, false);
  });
});
