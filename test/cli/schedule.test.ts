import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { cliPath, tars, type CliRun } from '../fixtures/cli.ts';
import { eventually } from '../fixtures/processes.ts';
import { startSmallStack, type SmallStack } from '../fixtures/small-stack.ts';

/** Its time comes on New Year's night only: nothing here waits for it. */
const schedule = { backup: '0 0 1 1 *' };
const password = { path: 'repository', password_file: 'key' };
let stack: SmallStack;

before(async () => {
  stack = await startSmallStack();
});
after(() => stack[Symbol.asyncDispose]());

interface Status {
  readonly verdict: string;
  readonly reasons: string[];
  readonly running: { verb: string; pid: number }[];
  readonly failures: {
    state: string;
    end?: { outcome: string; error?: { code: string; message: string } };
  }[];
  readonly last: Record<string, { end: { snapshot?: string; capturedBytes?: number } }>;
  readonly daemon?: { pid: number };
}
async function statusOf(config: readonly string[]): Promise<CliRun & { readonly value: Status }> {
  const run = await tars([...config, 'status', '--json']);
  return { ...run, value: JSON.parse(run.stdout) as Status };
}

/** A run of `args` that has begun and waits for its password, until it is let go. */
interface HeldRun {
  /** How it ended. */
  readonly ended: Promise<{ readonly exitCode: number | undefined; readonly stderr: string }>;
  readonly pid: number;
  kill(signal: NodeJS.Signals): void;
  letGo(): Promise<void>;
}
let gates = 0;
async function hold(change: Record<string, unknown>, args: readonly string[]): Promise<HeldRun> {
  const gate = join(stack.root, `gate-${(gates += 1)}`);
  await execa('mkfifo', [gate]);
  const command = ['sh', '-c', `read -r _ < '${gate}'; cat '${join(stack.root, 'key')}'`];
  const config = await stack.changed({
    ...change,
    repository: { path: 'repository', password_command: command },
  });
  const child = execa(process.execPath, [cliPath, ...config, ...args], {
    reject: false,
    stdin: 'ignore',
    env: { NO_COLOR: '1', TARS_CONFIG: undefined, TARS_PASSWORD: undefined },
  });
  // Opening returns once the run has the other end open.
  const writer = await open(gate, 'w');
  return {
    ended: child.then(({ exitCode, stderr }) => ({ exitCode, stderr })),
    kill: (signal) => void child.kill(signal),
    pid: child.pid ?? 0,
    async letGo() {
      await writer.writeFile('go\n').catch(() => undefined);
      await writer.close();
    },
  };
}

test('a run keeps others out by verb, pid and time; those that only read go on', async () => {
  const config = await stack.changed({ stack: 'busy' });
  const first = await hold({ stack: 'busy' }, ['backup']);
  for (const args of [['backup'], ['restore', '--yes'], ['prune'], ['forget', '--keep-last', '1', '--yes']]) {
    const { exitCode, stderr } = await tars([...config, ...args]);
    assert.equal(exitCode, 11, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, new RegExp(`A tars backup of busy is running .*pid ${first.pid}, since 20\\d\\d-`));
  }
  const status = await statusOf(config);
  assert.deepEqual(
    status.value.running.map(({ verb, pid }) => [verb, pid]),
    [['backup', first.pid]],
  );
  for (const args of [
    ['snapshots'],
    ['check', '--read-data'],
    ['backup', '--dry-run'],
    ['schedule', 'run'],
  ]) {
    const extra = args[0] === 'schedule' ? await stack.changed({ stack: 'busy', schedule }) : config;
    const { exitCode, stderr } = await tars([...extra, ...args]);
    assert.equal(exitCode, 0, `${args.join(' ')}: ${stderr}`);
  }
  await first.letGo();
  const { exitCode, stderr } = await first.ended;
  assert.equal(exitCode, 0, stderr);
  const { value, exitCode: fine } = await statusOf(config);
  assert.equal(fine, 0, value.reasons.join());
  assert.match(value.last['backup']?.end.snapshot ?? '', /^[0-9a-f]{64}$/);
  assert.ok((value.last['backup']?.end.capturedBytes ?? 0) > 0);
});

test('a killed run keeps nobody out, and status says that it was killed', async () => {
  const config = await stack.changed({ stack: 'killed' });
  const run = await hold({ stack: 'killed' }, ['backup']);
  run.kill('SIGKILL');
  await run.letGo();
  await run.ended;
  const killed = await tars([...config, 'status']);
  assert.equal(killed.exitCode, 1);
  assert.match(killed.stdout, /^killed: failing\n.*\n? +The last backup was killed$/m);
  assert.equal((await tars([...config, 'backup'])).exitCode, 0);
  assert.equal((await statusOf(config)).exitCode, 0);
});

test('status says what failed and why, without a secret, and when it is partial', async () => {
  const config = await stack.changed({ stack: 'ill', schedule });
  assert.equal((await tars([...config, 'backup'])).exitCode, 0);
  const nowhere = await stack.changed({ stack: 'ill', repository: { ...password, path: 'nowhere' } });
  const { exitCode, stderr } = await tars([...nowhere, 'backup']);
  assert.equal(exitCode, 10);
  const { value, exitCode: failing, stdout } = await statusOf(config);
  assert.equal(failing, 1);
  const error = value.failures[0]?.end?.error;
  assert.equal(error?.code, 'repository-not-found');
  assert.ok(stderr.includes(error.message), 'as it was said');
  assert.ok(!stdout.includes('a password for these tests'));
  const half = { config: { files: ['app.env'] }, redis: { port: 1 } };
  const partial = await stack.changed({ stack: 'ill', components: half });
  assert.equal((await tars([...partial, 'backup'])).exitCode, 2);
  const after = await tars([...config, 'status']);
  assert.equal(after.exitCode, 2);
  assert.match(after.stdout, /^ill: partial\n {2}The last backup is partial: redis: /);
});

test('a cron that no cron takes is named with its line', async () => {
  const config = await stack.changed({ schedule: { backup: '61 2 * * *', check: '0 5 L * *' } });
  const { exitCode, stderr } = await tars([...config, 'snapshots']);
  assert.equal(exitCode, 1);
  assert.match(stderr, /line \d+: schedule\.backup is wrong: minute 61: 0 to 59/);
  assert.match(stderr, /line \d+: schedule\.check is wrong: day L/);
});

test('what a scheduled run would not know is refused before anything is installed', async () => {
  const refused = async (change: object, env: Record<string, string>, message: RegExp): Promise<void> => {
    const config = await stack.changed({ schedule, ...change });
    const { exitCode, stderr } = await tars([...config, 'schedule', 'install', '--cron', '--dry-run'], {
      env,
    });
    assert.equal(exitCode, 1, stderr);
    assert.match(stderr, message);
  };
  await refused({ repository: { path: 'repository' } }, { TARS_PASSWORD: 'x' }, /password_file/);
  await refused({ repository: { ...password, path: '${PLACE}' } }, { PLACE: '/x' }, /\$\{PLACE\}/);
  await refused({ state_dir: undefined }, { XDG_STATE_HOME: stack.root }, /state_dir: /);
  await refused({ schedule: {} }, {}, /schedules nothing/);
  await refused({ schedule: { forget: '0 4 * * sun' } }, {}, /which snapshots to keep/);
});

test('the daemon takes the first backup at once, excludes a second daemon, and ends on SIGTERM', async () => {
  const config = await stack.changed({ stack: 'served', schedule });
  const daemon = execa(process.execPath, [cliPath, ...config, 'daemon'], {
    reject: false,
    stdin: 'ignore',
    env: { NO_COLOR: '1', TARS_CONFIG: undefined, TARS_PASSWORD: undefined },
  });
  const said = (text: string) => (): Promise<boolean> => Promise.resolve(heard.includes(text));
  let heard = '';
  daemon.stderr.on('data', (chunk: Buffer) => (heard += chunk.toString()));
  await eventually('the daemon waits for the next time', said('Next: backup at'), 60_000);
  assert.match(heard, /backup ended with exit code 0/);
  const second = await tars([...config, 'daemon']);
  assert.equal(second.exitCode, 11);
  assert.match(second.stderr, new RegExp(`A tars daemon of served is running .*pid ${daemon.pid}`));
  assert.equal((await statusOf(config)).value.daemon?.pid, daemon.pid);
  daemon.kill('SIGHUP');
  assert.equal((await statusOf(config)).exitCode, 0);
  daemon.kill('SIGTERM');
  const { exitCode } = await daemon;
  assert.equal(exitCode, 0, heard);
});

test('a daemon that is stopped amid a backup stops that first; the next one catches it up', async () => {
  const daemon = await hold({ stack: 'stopped', schedule }, ['daemon']);
  daemon.kill('SIGTERM');
  const { exitCode, stderr } = await daemon.ended;
  await daemon.letGo();
  assert.equal(exitCode, 0, stderr);
  const config = await stack.changed({ stack: 'stopped', schedule });
  const { value } = await statusOf(config);
  assert.deepEqual(
    value.failures.map(({ end }) => end?.outcome),
    ['interrupted'],
  );
  assert.deepEqual(value.running, []);
});

test('a state directory that cannot be written costs the record, not the backup', async () => {
  const config = await stack.changed({ stack: 'bare', state_dir: 'bare-state' });
  await mkdir(join(stack.root, 'bare-state'));
  await writeFile(join(stack.root, 'bare-state', 'runs'), 'not a directory');
  const { exitCode, stderr } = await tars([...config, 'backup']);
  assert.equal(exitCode, 0, stderr);
  assert.match(stderr, /\[WARN\] Cannot record the run in/);
});
