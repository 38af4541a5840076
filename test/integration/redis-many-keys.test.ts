import { execa } from 'execa';
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { startRedis, type PrivateRedis } from '../../src/demo/servers/redis.ts';
import { counted } from '../fixtures/campaign.ts';
import { cliPath } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { peakMemoryVariable } from '../fixtures/peak-memory.ts';
import { clientOf, disposable } from '../fixtures/redis.ts';

const ctx = testContext();
const keys = counted(20_000, 2_000_000);
const valueBytes = 100;
const largeBytes = counted(2 << 20, 512 << 20);
const pending = counted(2_000, 100_000);
/** Of a run's process, worker threads included; as in memory.test.ts. */
const peakMaxBytes = 400e6;

let root: string;
let server: PrivateRedis;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-redis-many-'));
  server = await startRedis(root, ctx, {
    lines: ['save ""', 'databases 64', 'enable-debug-command local', 'proto-max-bulk-len 512mb'],
  });
  await mkdir(join(root, 'scratch'));
  await writeFile(join(root, 'key'), 'a password for these tests\n', { mode: 0o600 });
  const settings = {
    version: 1,
    stack: 'many',
    repository: { path: 'repository', password_file: 'key' },
    scratch_dir: 'scratch',
    state_dir: 'state',
    components: { redis: { port: server.port, data_dir: server.dataDir, service: 'redis' } },
    services: { redis: { start: server.startCommand, stop: server.stopCommand, pid_file: server.pidFile } },
  };
  await writeFile(join(root, 'tars.yaml'), stringify(settings), { mode: 0o600 });
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

/** The peak memory of the run, in bytes. */
async function tars(...args: string[]): Promise<number> {
  const peakFile = join(root, 'peak');
  const hook = fileURLToPath(new URL('../fixtures/peak-memory.ts', import.meta.url));
  const argv = ['--import', hook, cliPath, '--config', join(root, 'tars.yaml'), ...args];
  const { exitCode, all } = await execa(process.execPath, argv, {
    ...{ reject: false, stdin: 'ignore', all: true },
    env: { TARS_CONFIG: undefined, TARS_PASSWORD: undefined, NO_COLOR: '1', [peakMemoryVariable]: peakFile },
  });
  assert.equal(exitCode, 0, all);
  return Number(await readFile(peakFile, 'utf8'));
}

async function call(db: number, ...[name = '', ...args]: string[]): Promise<unknown> {
  await using client = disposable(clientOf(server, db));
  return await client.redis.call(name, ...args);
}

const digest = (): Promise<unknown> => call(0, 'DEBUG', 'DIGEST');

/** One of each kind that could cost more than itself. */
async function addOddKeys(): Promise<void> {
  await call(40, 'SET', 'in a database above 15', 'x');
  await call(0, 'SETRANGE', 'large', String(largeBytes - 1), 'x');
  await call(
    0,
    'FUNCTION',
    'LOAD',
    "#!lua name=lib\nredis.register_function('hello', function() return 1 end)",
  );
  await call(0, 'XGROUP', 'CREATE', 'stream', 'readers', '0', 'MKSTREAM');
  const add = `for i = 1, ${pending} do redis.call('XADD', 'stream', i .. '-1', 'f', i) end`;
  await call(0, 'EVAL', add, '0');
  await call(
    0,
    'EVAL',
    `redis.call('XREADGROUP', 'GROUP', 'readers', 'ann', 'COUNT', ${pending}, 'STREAMS', 'stream', '>')`,
    '0',
  );
  // They go while the others are read, or have gone before.
  const soon = "for i = 1, 500 do redis.call('SET', 'soon:' .. i, i, 'PX', 2000 + i) end";
  await call(0, 'EVAL', soon, '0');
}

test(`${keys} keys, and odd ones among them, are captured, compared and restored in memory that does not grow with them`, async (t) => {
  await call(0, 'DEBUG', 'POPULATE', String(keys), 'key', String(valueBytes));
  await addOddKeys();
  await tars('init');
  const runs: Record<string, string> = {};
  const measured = async (what: string, ...args: string[]): Promise<void> => {
    const startedMs = ctx.clock.monotonicMs();
    const peakBytes = await tars(...args);
    runs[what] = `${Math.round(ctx.clock.monotonicMs() - startedMs)} ms, ${Math.round(peakBytes / 1e6)} MB`;
    assert.ok(peakBytes < peakMaxBytes, `${what}: ${peakBytes} bytes`);
  };
  await measured('backup', 'backup');
  await measured('unchanged backup', 'backup');
  await measured('verify', 'verify');
  // Those that expire have gone from both, or are in neither.
  await call(0, 'EVAL', "for i = 1, 500 do redis.call('DEL', 'soon:' .. i) end", '0');
  const before = await digest();
  await call(0, 'FLUSHALL');
  await measured('restore', 'restore', 'latest', '--yes');
  await call(0, 'EVAL', "for i = 1, 500 do redis.call('DEL', 'soon:' .. i) end", '0');
  assert.equal(await digest(), before);
  assert.equal(await call(0, 'FCALL', 'hello', '0'), 1);
  t.diagnostic(`${keys} keys: ${JSON.stringify(runs)}`);
});
