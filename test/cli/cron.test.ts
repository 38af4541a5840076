import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createRunLog } from '../../src/storage/journal/run-log.ts';
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
    await schedule('install');
    const installed = await crontab();
    assert.deepEqual(installed.subarray(0, foreign.length), foreign);
    const added = installed.subarray(foreign.length).toString();
    for (const line of added.trimEnd().split('\n')) assert.ok(plan.includes(line), line);
    assert.match(await schedule('install'), /installed already/);
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

test('where there was no crontab there is none afterwards', { skip }, async () => {
  await cron.write(undefined);
  await schedule('install');
  await schedule('remove');
  assert.equal(await cron.read(), undefined);
});

test('cron runs the backup at its time', { skip }, async () => {
  await schedule('install');
  const log = createRunLog(join(stack.root, 'state', 'runs'), 'small');
  assert.deepEqual(log.runs(), []);
  cron.startDaemon('2026-11-24 02:29:58');
  await eventually('the backup ended', () => Promise.resolve(log.runs()[0]?.state === 'finished'), 60_000);
  const [run] = log.runs();
  assert.equal(run?.verb, 'backup');
  assert.equal(run.end?.outcome, 'ok', JSON.stringify(run));
  assert.match((await cron.tars([...config, 'status'])).stdout, /^small: fine$/m);
});
