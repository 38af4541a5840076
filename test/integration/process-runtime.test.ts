import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdtemp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { freePort } from '../../src/demo/servers/common.ts';
import { startRedis } from '../../src/demo/servers/redis.ts';
import type { Service } from '../../src/ports/runtime.ts';
import { createProcessRuntime, type ProcessServiceOptions } from '../../src/runtimes/process/index.ts';
import { launch } from '../../src/runtimes/process/launch.ts';
import { testContext } from '../fixtures/context.ts';
import { eventually, processState, startWriter } from '../fixtures/processes.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-runtime-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const ctx = testContext();
const patience = { dependsOn: [], stopTimeoutMs: 20_000, startTimeoutMs: 20_000 };

function runtimeOf(
  options: Partial<ProcessServiceOptions>,
  writers: Record<string, { pidFile: string }> = {},
) {
  const runtime = createProcessRuntime({ services: { store: { ...patience, ...options } }, writers });
  const state = async (): Promise<Service['state'] | undefined> =>
    (await runtime.discover(ctx)).find(({ name }) => name === 'store')?.state;
  return { ...runtime, state };
}

const pidIn = async (pidFile: string): Promise<number> =>
  Number.parseInt(await readFile(pidFile, 'utf8'), 10);

test('redis by its start command, pid file and SIGTERM: it stops with its data saved, and starts again', async () => {
  await using redis = await startRedis(join(root, 'redis'), ctx);
  const { pidFile } = redis;
  const cli = async (...args: string[]): Promise<string> =>
    (await execa('redis-cli', ['-p', String(redis.port), ...args], { reject: false })).stdout;
  const runtime = runtimeOf({ start: redis.startCommand, pidFile, dependsOn: ['disk'] });
  assert.deepEqual(await runtime.discover(ctx), [
    {
      ...{ name: 'store', state: 'running', dependsOn: ['disk'], canPause: false, canStop: true },
      ...{ writer: false, seemsWriter: undefined },
    },
  ]);
  const pid = await pidIn(pidFile);
  await runtime.start('store', ctx);
  assert.equal(await pidIn(pidFile), pid, 'a running service is not started again');
  await cli('set', 'kept', 'yes');
  await runtime.stop('store', ctx);
  assert.equal(await runtime.state(), 'stopped');
  assert.ok(['', 'Z'].includes(await processState(pid)));
  await runtime.stop('store', ctx);
  await runtime.start('store', ctx);
  await eventually('redis has its data', async () => (await cli('get', 'kept')) === 'yes');
  assert.equal(await runtime.state(), 'running');
});

const serverScript =
  'require("http").createServer((q, r) => r.end("ok")).listen(process.argv[1], () => console.log("up"))';

test('a foreground program is launched detached, logged, recognised, and stopped with what its shell left', async () => {
  const port = await freePort();
  const [pidFile, logFile] = [join(root, 'app.pid'), join(root, 'app.log')];
  // The shell ends on SIGTERM and leaves the server behind it.
  const command = ['sh', '-c', '"$0" -e "$1" "$2"; true', process.execPath, serverScript, String(port)];
  const runtime = runtimeOf({ command, pidFile, logFile });
  assert.equal(await runtime.state(), 'stopped');
  await runtime.start('store', ctx);
  await eventually('it logs', async () => (await readFile(logFile, 'utf8')) === 'up\n');
  assert.equal((await stat(logFile)).mode & 0o777, 0o600);
  assert.equal((await stat(pidFile)).mode & 0o777, 0o600);
  assert.match(await readFile(pidFile, 'utf8'), /^\d+\n$/, 'others read it too');
  assert.equal(await runtime.state(), 'running');
  const pid = await pidIn(pidFile);
  process.kill(pid, 'SIGKILL');
  await eventually('the shell has ended', async () => ['', 'Z'].includes(await processState(pid)));
  assert.equal(await runtime.state(), 'running', 'the server behind the shell still runs');
  await runtime.stop('store', ctx);
  assert.equal(await runtime.state(), 'stopped');
  await assert.rejects(fetch(`http://127.0.0.1:${port}`));
  await runtime.start('store', ctx);
  await eventually('it answers', () =>
    fetch(`http://127.0.0.1:${port}`).then(
      (answer) => answer.ok,
      () => false,
    ),
  );
  await runtime.stop('store', ctx);
  await assert.rejects(fetch(`http://127.0.0.1:${port}`));
});

test('stale pid files: of a dead process, of a recycled pid, and of one that cannot be told', async () => {
  await using other = await startWriter(root, 'other');
  const pidFile = join(root, 'store.pid');
  const runtime = runtimeOf({ start: ['true'], pidFile });
  await writeFile(pidFile, '4194000\n');
  assert.equal(await runtime.state(), 'stopped');
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  await writeFile(pidFile, `${other.pid}\n`);
  await writeFile(`${pidFile}.tars`, `${other.pid} 17 ${bootId}\n`);
  assert.equal(await runtime.state(), 'stopped', 'tars recorded another start of that pid');
  await runtime.stop('store', ctx);
  await utimes(`${pidFile}.tars`, new Date(0), new Date(0));
  assert.equal(await runtime.state(), 'running', 'something else has written the pid file since');
  await writeFile(`${pidFile}.tars`, `17 17 ${bootId}\n`);
  assert.equal(await runtime.state(), 'running', 'the record is of another process');
  await utimes(pidFile, new Date(0), new Date(0));
  assert.equal(await runtime.state(), 'unknown', 'the process started long after the file was written');
  await assert.rejects(runtime.stop('store', ctx), { code: 'service-unavailable' });
  for (const nonsense of ['', 'none', '0', '1', '-1']) {
    await writeFile(pidFile, nonsense);
    assert.equal(await runtime.state(), 'stopped');
  }
  await other.ticks();
});

test('a service that does not end in time is a timeout, and is not killed', async () => {
  const pidFile = join(root, 'stubborn.pid');
  const logFile = join(root, 'stubborn.log');
  const script =
    'process.on("SIGTERM", () => console.log("no")); setInterval(() => 0, 1000); console.log("up")';
  const runtime = runtimeOf({
    command: [process.execPath, '-e', script],
    pidFile,
    logFile,
    stopTimeoutMs: 300,
  });
  await runtime.start('store', ctx);
  try {
    await eventually('it listens', async () => (await readFile(logFile, 'utf8')).startsWith('up'));
    await assert.rejects(runtime.stop('store', ctx), {
      code: 'timeout',
      message: /has not stopped within 300 ms/,
    });
    assert.equal(await runtime.state(), 'running');
    await eventually('it was asked', async () => (await readFile(logFile, 'utf8')) === 'up\nno\n');
    const abort = AbortSignal.abort();
    await assert.rejects(runtime.stop('store', testContext(abort)), { code: 'interrupted' });
  } finally {
    process.kill(await pidIn(pidFile), 'SIGKILL');
  }
});

test('commands decide when given; their failure shows the end of their output, never the environment', async () => {
  const flag = join(root, 'flag');
  const runtime = runtimeOf({ start: ['touch', flag], stop: ['rm', flag], status: ['test', '-e', flag] });
  for (const expected of ['stopped', 'running'] as const) {
    assert.equal(await runtime.state(), expected);
    await (expected === 'stopped' ? runtime.start('store', ctx) : runtime.stop('store', ctx));
  }
  assert.equal(await runtime.state(), 'stopped');
  process.env['TARS_PASSWORD'] = 'do-not-pass-on';
  try {
    const failing = ['sh', '-c', 'echo "seen: $TARS_PASSWORD."; seq 2000; echo no space left >&2; exit 3'];
    const broken = runtimeOf({ start: failing, status: ['false'] });
    await assert.rejects(broken.start('store', ctx), (error: Error) => {
      assert.match(error.message, /^Cannot start store: sh ended with 3: [^]*2000\nno space left$/);
      assert.ok(error.message.length < 2200);
      return true;
    });
    const short = runtimeOf({
      start: ['sh', '-c', 'echo "seen: $TARS_PASSWORD."; exit 1'],
      status: ['false'],
    });
    await assert.rejects(short.start('store', ctx), /seen: \.$/);
  } finally {
    delete process.env['TARS_PASSWORD'];
  }
  const missing = runtimeOf({ start: [join(root, 'no-such-program')], status: ['false'] });
  await assert.rejects(missing.start('store', ctx), { code: 'subprocess', message: /no-such-program/ });
  const slow = runtimeOf({ start: ['sleep', '60'], status: ['false'], startTimeoutMs: 100 });
  await assert.rejects(slow.start('store', ctx), { code: 'timeout' });
  await assert.rejects(runtimeOf({}).start('store', ctx), { code: 'configuration' });
  await assert.rejects(runtimeOf({}).stop('store', ctx), { code: 'configuration' });
  assert.equal(await runtimeOf({}).state(), 'unknown');
});

test('a writer that runs by its status command, and whose process is not found, is not taken for paused', async () => {
  const pidFile = join(root, 'nowhere.pid');
  const runtime = runtimeOf({ status: ['true'], pidFile }, { store: { pidFile } });
  await assert.rejects(runtime.pause(['store'], ctx), {
    code: 'service-unavailable',
    message: 'The writer store runs, but its process was not found',
  });
});

test('a writer that was restarted since the guardian learned how to resume it is not paused', async () => {
  await using before = await startWriter(root, 'before');
  await using since = await startWriter(root, 'since');
  const { pidFile } = before;
  const runtime = runtimeOf({ pidFile }, { store: { pidFile } });
  const [action] = await runtime.resumeActions(['store'], ctx);
  assert.deepEqual(action, { kind: 'signal', pid: before.pid, signal: 'SIGCONT' });
  await writeFile(pidFile, `${since.pid}\n`);
  await assert.rejects(runtime.pause(['store'], ctx), /The writer store was restarted just now/);
  await since.ticks();
  await runtime.resumeActions(['store'], ctx);
  await runtime.pause(['store'], ctx);
  assert.ok(await since.frozen());
  await runtime.resume(['store']);
  await since.ticks();
});

test('a start command that leaves a daemon holding its output does not keep us waiting', async () => {
  const pidFile = join(root, 'daemon.pid');
  const start = ['sh', '-c', 'sleep 600 & echo $! > "$0"', pidFile];
  const runtime = runtimeOf({ start, pidFile });
  await runtime.start('store', ctx);
  assert.equal(await runtime.state(), 'running');
  await runtime.stop('store', ctx);
  assert.equal(await runtime.state(), 'stopped');
});

test('a program that ends at once is an error with the end of its log', async () => {
  const options = {
    command: ['sh', '-c', 'echo bad flag; exit 2'],
    pidFile: join(root, 'p'),
    logFile: join(root, 'l'),
  };
  await assert.rejects(runtimeOf(options).start('store', ctx), {
    code: 'subprocess',
    message: 'Cannot start store: sh ended at once with 2: bad flag',
  });
  const absent = { ...options, command: [join(root, 'absent')] };
  await assert.rejects(runtimeOf(absent).start('store', ctx), /Cannot start store: .*absent/);
});

test('launched as another user it has that user, home and groups', async (t) => {
  if (process.getuid?.() !== 0) {
    t.skip('only root may switch users');
    return;
  }
  const [pidFile, logFile] = [join(root, 'p'), join(root, 'l')];
  const command = ['sh', '-c', 'id -un; id -gn; echo $HOME; sleep 600'];
  const runtime = runtimeOf({ command, pidFile, logFile, user: 'nobody' });
  await runtime.start('store', ctx);
  await eventually(
    'it told',
    async () => (await readFile(logFile, 'utf8')) === 'nobody\nnogroup\n/nonexistent\n',
  );
  await runtime.stop('store', ctx);
  const unknown = runtimeOf({ command, pidFile, logFile, user: 'no-such-user' });
  await assert.rejects(unknown.start('store', ctx), { code: 'configuration' });
});

test('where this process has no entry in the password database a service may still name a user', async (t) => {
  if (process.getuid?.() !== 0 || process.seteuid === undefined) {
    t.skip('only root may switch users');
    return;
  }
  const options = { service: 'store', command: ['true'], pidFile: join(root, 'p'), logFile: undefined };
  process.seteuid(54_321);
  try {
    await assert.rejects(launch({ ...options, user: 'no-such-user' }, ctx), {
      code: 'configuration',
      message: 'Cannot start store as no-such-user: there is no such user',
    });
  } finally {
    process.seteuid(0);
  }
});
