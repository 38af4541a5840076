import assert from 'node:assert/strict';
import { readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runLogOf } from '../../src/composition/index.ts';
import { cronRuns } from '../../src/runtimes/schedulers/cron-daemon.ts';
import { loadSettings } from '../../src/composition/settings.ts';
import { startPrivateCron, whyNoPrivateCron, type PrivateCron } from '../fixtures/private-cron.ts';
import { eventually } from '../fixtures/processes.ts';
import { startSmallStack, type SmallStack } from '../fixtures/small-stack.ts';

const skip = whyNoPrivateCron() ?? false;
let stack: SmallStack;
let cron: PrivateCron;
let config: string[];

before(async () => {
  if (skip !== false) return;
  stack = await startSmallStack();
  cron = await startPrivateCron();
  config = await stack.changed({ schedule: { backup: '30 2 * * *', check: '0 5 1 * *' } });
});
after(async () => {
  if (skip !== false) return;
  await cron[Symbol.asyncDispose]();
  await stack[Symbol.asyncDispose]();
});

const schedule = async (...args: string[]): Promise<string> => {
  const { exitCode, stdout, stderr } = await cron.tars([...config, 'schedule', ...args]);
  assert.equal(exitCode, 0, `${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
};
const crontab = async (): Promise<Buffer> => Buffer.from((await cron.read()) ?? []);

/** Bytes that are no UTF-8, tabs, an unusual end of a line, and a block of somebody else. */
const foreign = Buffer.concat([
  Buffer.from('# mine\nMAILTO=me\n\n*/5 * * * *\t/bin/true # caf'),
  Buffer.from([0xe9, 0x20, 0x5c, 0x72, 0x0d, 0x0a]),
  Buffer.from('# BEGIN tars other (x)\n0 0 * * * /bin/true\n# END tars other\n'),
]);

test(
  'a foreign crontab stays byte for byte, whatever is installed, changed and removed',
  { skip },
  async () => {
    await cron.write(foreign);
    const plan = await schedule('install', '--dry-run');
    assert.match(plan, /^Would create lines in your crontab$/m);
    assert.deepEqual(await crontab(), foreign, 'a dry run changes nothing');
    assert.match(
      await schedule('install'),
      /^The first backup runs within the next hour\. To take one now: tars backup$/m,
    );
    const installed = await crontab();
    assert.deepEqual(installed.subarray(0, foreign.length), foreign);
    const added = installed.subarray(foreign.length).toString();
    for (const line of added.trimEnd().split('\n')) assert.ok(plan.includes(line), line);
    assert.match(await schedule('install'), /already installed/);
    assert.deepEqual(await crontab(), installed, 'twice is once');
    assert.match(await schedule('status'), /^Installed with cron/);

    await cron.write(Buffer.concat([installed, Buffer.from('# after\n')]));
    const changed = await stack.changed({ schedule: { backup: '15 3 * * *' } });
    const differs = await cron.tars([...changed, 'schedule', 'status']);
    assert.equal(differs.exitCode, 1);
    assert.match(differs.stdout, /differs from .*: tars schedule install/);
    assert.equal((await cron.tars([...changed, 'schedule', 'install'])).exitCode, 0);
    const again = (await crontab()).toString('latin1');
    assert.match(again, /^15 3 \* \* \* PATH/m);
    assert.doesNotMatch(again, /^(30 2|0 5) .*PATH/m);

    assert.match(await schedule('remove', '--dry-run'), /^Would remove lines in your crontab$/m);
    await schedule('remove');
    assert.deepEqual(await crontab(), Buffer.concat([foreign, Buffer.from('# after\n')]));
    assert.match(await schedule('remove'), /No schedule is installed/);
  },
);

test(
  'once it was installed, a stack waits for its first backup, however old tars.yaml is',
  { skip },
  async () => {
    const old = await stack.changed({ stack: 'awaited', schedule: { backup: '0 0 1 1 *' } });
    const yearAgo = new Date(Date.now() - 366 * 86_400_000);
    for (const path of [old[1] ?? '', join(stack.root, 'repository/config')])
      await utimes(path, yearAgo, yearAgo);
    assert.match((await cron.tars([...old, 'status'])).stdout, /^awaited: failing$/m);
    assert.equal((await cron.tars([...old, 'schedule', 'install'])).exitCode, 0);
    const installed = await cron.tars([...old, 'status']);
    assert.match(installed.stdout, /^ {2}No backup is recorded here yet: the first one is due/m);
    // The processes of this machine are seen there too, and its cron may be among them.
    if (await cronRuns()) assert.match(installed.stdout, /^awaited: waiting$/m);
    else assert.match(installed.stdout, /^awaited: warning\n[^]*no cron runs here/);
    assert.equal(installed.exitCode, 0);
    const mark = join(stack.root, 'state/runs/awaited.scheduled');
    await utimes(mark, yearAgo, yearAgo);
    assert.equal((await cron.tars([...old, 'schedule', 'install'])).exitCode, 0);
    assert.match(
      (await cron.tars([...old, 'status'])).stdout,
      /^awaited: failing$/m,
      'nothing new was installed',
    );
    await cron.tars([...old, 'schedule', 'remove']);
  },
);

test('a stack that was renamed takes the lines of its old name along', { skip }, async () => {
  await cron.write(foreign);
  await schedule('install');
  const renamed = await stack.changed({ stack: 'renamed', schedule: { backup: '30 2 * * *' } });
  // The same file: settings are written anew for each change.
  const path = config[1] ?? '';
  const text = await readFile(renamed[1] ?? '', 'utf8');
  const before = await readFile(path, 'utf8');
  await writeFile(path, text);
  try {
    const status = await cron.tars([...config, 'schedule', 'status']);
    assert.equal(status.exitCode, 1);
    assert.match(
      status.stdout,
      /differs from .*\nThe schedule that small installed for the same tars\.yaml is still there$/m,
    );
    const { stdout } = await cron.tars([...config, 'doctor']);
    assert.match(stdout, /The schedule that small installed for the same tars\.yaml still runs/);
    assert.match(await schedule('install'), /^Removed lines of small in your crontab$/m);
    const installed = (await crontab()).toString('latin1');
    assert.match(installed, /^# BEGIN tars renamed /m);
    assert.doesNotMatch(installed, /^# BEGIN tars small /m);
    await writeFile(path, before);
    await schedule('remove');
    assert.deepEqual(await crontab(), foreign);
  } finally {
    await writeFile(path, before);
  }
});

test('where there was no crontab there is none afterwards', { skip }, async () => {
  await cron.write(undefined);
  await schedule('install');
  await schedule('remove');
  assert.equal(await cron.read(), undefined);
});

test('cron runs the backup at its time', { skip }, async () => {
  await schedule('install');
  const log = runLogOf(await loadSettings(stack.settingsPath, {}));
  assert.deepEqual(log.runs(), []);
  cron.startDaemon('2026-11-24 02:29:58');
  await eventually('the backup ended', () => Promise.resolve(log.runs()[0]?.state === 'finished'), 60_000);
  const [run] = log.runs();
  assert.equal(run?.verb, 'backup');
  assert.equal(run.end?.outcome, 'ok', JSON.stringify(run));
  assert.match((await cron.tars([...config, 'status'])).stdout, /^small: fine$/m);
});
