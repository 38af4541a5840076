import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { testContext } from '../../../test/fixtures/context.ts';
import { scheduled } from '../../../test/fixtures/schedule.ts';
import type { ScheduledStack } from '../../ports/scheduler.ts';
import { createCronScheduler } from './cron.ts';
import { crontabBlock, splitCrontab } from './crontab-block.ts';
import { createSystemdScheduler } from './systemd.ts';
import { systemdUnits, unitMarker, unitNames } from './systemd-units.ts';

const oddPath = `/opt/a b/50% $off/"q'uo\\te".yaml`;
function stack(more: Partial<ScheduledStack> = {}): ScheduledStack {
  return {
    ...scheduled({ backup: '30 2 * * *', forget: '0 4 * * sun', check: '0 5 1 * *' }, 10),
    command: [process.execPath, '/opt/tars/main.js', '--config', '/etc/tars/tars.yaml'],
    writablePaths: ['/etc/tars', '/mnt/backup', '/usr/share/my models'],
    namedPaths: ['/etc/tars/tars.yaml', '/mnt/backup', '/tmp'],
    ...more,
  };
}

test('the block of a crontab: each cron, and an hourly look for what was missed', () => {
  const lines = crontabBlock(stack()).split('\n');
  assert.match(lines[0] ?? '', /^# BEGIN tars home /);
  assert.deepEqual(
    lines.slice(1, 5).map((line) => line.split(' PATH=')[0]),
    ['30 2 * * *', '0 4 * * sun', '0 5 1 * *', '17 * * * *'],
  );
  assert.equal(new Set(lines.slice(1, 5).map((line) => line.split(' PATH=')[1])).size, 1);
  assert.deepEqual(lines.slice(5), ['# END tars home', '']);
});

test('sh reads a line of the block as the words it stands for, after cron has read its percent signs', async () => {
  const command = ['printf', '%s\\n', oddPath];
  const [, line = ''] = crontabBlock(stack({ command })).split('\n');
  // cron(8): an unescaped % ends the line; \% is %.
  assert.doesNotMatch(line, /(?<!\\)%/);
  const shell = line.slice('30 2 * * * '.length).replaceAll('\\%', '%');
  const { stdout } = await promisify(execFile)('sh', ['-c', shell]);
  assert.deepEqual(stdout.split('\n').slice(0, 4), [oddPath, 'schedule', 'run', '--quiet']);
  assert.throws(() => crontabBlock(stack({ command: ['/opt/a\nb'] })), /cannot hold/);
});

test('a crontab taken apart is byte for byte what it was, and only the stack’s own block is taken', () => {
  const block = crontabBlock(stack());
  const other = crontabBlock(stack({ stack: 'home-2' }));
  const line = fc.oneof(
    fc.constantFrom('MAILTO=me', '# END tars', '#BEGIN tars home', '', '\t \xff\r'),
    fc.string(),
  );
  const lines = fc.array(line.filter((text) => !/tars home( |$)/.test(text) || text.startsWith('#B')));
  fc.assert(
    fc.property(lines, lines, fc.boolean(), (before, after, newline) => {
      const head = [...before.map((text) => text.replaceAll('\n', '')), other].join('\n');
      const tail = after.map((text) => text.replaceAll('\n', '')).join('\n') + (newline ? '\n' : '');
      assert.deepEqual(splitCrontab(head + block + tail, 'home'), { before: head, block, after: tail });
      assert.deepEqual(splitCrontab(head + tail, 'home'), { before: head + tail, block: '', after: '' });
    }),
    { seed: 20261124 },
  );
  for (const broken of [block + block, block.replace(/# END.*\n/, ''), block.replace(/# BEGIN.*\n/, '')]) {
    assert.throws(() => splitCrontab(broken, 'home'), /no clear beginning and end/);
  }
});

test('a service and a timer for each cron; what systemd has no form for is refused by name', () => {
  const units = systemdUnits(stack(), false);
  assert.deepEqual(
    [...units.keys()],
    [
      ...['tars-home-backup.service', 'tars-home-backup.timer', 'tars-home-forget.service'],
      ...['tars-home-forget.timer', 'tars-home-check.service', 'tars-home-check.timer'],
    ],
  );
  for (const text of units.values()) assert.ok(text.startsWith(`${unitMarker}\n`));
  assert.match(units.get('tars-home-forget.timer') ?? '', /^OnCalendar=Sun \*-\*-\* 04:00:00$/m);
  const service = units.get('tars-home-forget.service') ?? '';
  assert.match(
    service,
    /^ExecStart=\S+ \/opt\/tars\/main.js --config \/etc\/tars\/tars.yaml forget --prune --yes$/m,
  );
  assert.match(service, /^After=.* tars-home-backup.service$/m, 'one waits for the other');
  assert.match(service, /^ReadWritePaths=-\/etc\/tars$/m);
  assert.match(service, /^ReadWritePaths="-\/usr\/share\/my models"$/m);
  assert.doesNotMatch(service, /ReadWritePaths=-\/mnt/, 'it can be written anyway');
  assert.match(service, /^PrivateTmp=yes$/m);
  const named = systemdUnits(stack({ namedPaths: ['/tmp/x'] }), false).get('tars-home-backup.service') ?? '';
  assert.match(named, /^PrivateTmp=no$/m);
  assert.doesNotMatch(systemdUnits(stack(), true).get('tars-home-backup.service') ?? '', /Protect|Private/);
  const either = { ...stack(), ...scheduled({ check: '0 0 13 * fri' }) };
  assert.throws(() => systemdUnits(either, false), /^RangeError: check: .*either/);
});

test('units that the same tars.yaml had under another name are removed, those of another stay', async () => {
  const root = await mkdtemp(join(tmpdir(), 'tars-units-'));
  const before = process.env['XDG_CONFIG_HOME'];
  process.env['XDG_CONFIG_HOME'] = root;
  try {
    const directory = join(root, 'systemd/user');
    await mkdir(directory, { recursive: true });
    const command = [process.execPath, '/opt/tars/main.js', '--config', oddPath];
    const other = [...command.slice(0, 3), '/etc/tars/other.yaml'];
    const written = [
      ...systemdUnits(
        stack({ stack: 'old-name', command: ['/usr/bin/node', '/old.js', ...command.slice(2)] }),
        true,
      ),
      ...systemdUnits(stack({ stack: 'other', command: other }), true),
    ];
    for (const [name, text] of written) await writeFile(join(directory, name), text);
    const scheduler = createSystemdScheduler(true);
    const ctx = testContext();
    const install = await scheduler.planInstall(stack({ command }), ctx);
    assert.equal(install.state, 'differs');
    assert.deepEqual(install.leftovers, ['old-name']);
    const remove = await scheduler.planRemove(stack({ command }), ctx);
    assert.deepEqual(
      remove.changes.map(({ action, what }) => `${action} ${what}`),
      unitNames('old-name').map((name) => `remove ${join(directory, name)}`),
    );
    const theirs = await scheduler.planRemove({ stack: 'other', command: other }, ctx);
    assert.deepEqual(theirs.leftovers, []);
  } finally {
    if (before === undefined) delete process.env['XDG_CONFIG_HOME'];
    else process.env['XDG_CONFIG_HOME'] = before;
    await rm(root, { recursive: true, force: true });
  }
});

/**
 * Runs `work` with `program` as a script on the PATH. The script can interrupt the work with `interrupt`, and ends by
 * the SIGTERM that it gets for that.
 */
async function withProgram(
  program: string,
  script: readonly string[],
  work: (directory: string, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'tars-program-'));
  const before = { ...process.env };
  const abort = new AbortController();
  const interrupt = (): void => abort.abort();
  process.on('SIGWINCH', interrupt);
  const lines = [
    '#!/bin/sh',
    `cd '${root}'`,
    'interrupt() { kill -WINCH $PPID; while :; do sleep 0.1; done; }',
  ];
  try {
    await writeFile(join(root, program), [...lines, ...script, ''].join('\n'), { mode: 0o755 });
    Object.assign(process.env, { PATH: `${root}:${before['PATH'] ?? ''}`, XDG_CONFIG_HOME: root });
    await work(root, abort.signal);
  } finally {
    process.off('SIGWINCH', interrupt);
    process.env['PATH'] = before['PATH'];
    if (before['XDG_CONFIG_HOME'] === undefined) delete process.env['XDG_CONFIG_HOME'];
    else process.env['XDG_CONFIG_HOME'] = before['XDG_CONFIG_HOME'];
    await rm(root, { recursive: true, force: true });
  }
}

/** What crontab and systemctl do when they end well although a SIGTERM comes in the middle. */
const endsWell = "trap 'exit 0' TERM";

test('an interruption that comes after the crontab was written is none, and one before it is', async () => {
  const listing =
    '[ "$1" = -l ] && { cat table 2>/dev/null || { echo "no crontab for me" >&2; exit 1; }; exit; }';
  const install = async (signal: AbortSignal): Promise<void> => {
    const plan = await createCronScheduler().planInstall(stack(), testContext());
    await plan.execute(testContext(signal));
  };
  await withProgram('crontab', [listing, endsWell, 'cat >table', 'interrupt'], async (root, signal) => {
    await install(signal);
    assert.ok(signal.aborted);
    assert.equal(await readFile(join(root, 'table'), 'latin1'), crontabBlock(stack()));
  });
  await withProgram('crontab', [listing, 'interrupt', 'cat >table'], async (root, signal) => {
    await assert.rejects(install(signal), { code: 'interrupted' });
    assert.ok(!existsSync(join(root, 'table')));
  });
});

test('an interruption that comes after the last change of systemd is none', async () => {
  const last = '[ "$2" = restart ] && interrupt';
  await withProgram('systemctl', [endsWell, 'echo "$*" >>calls', last, 'exit 0'], async (root, signal) => {
    const plan = await createSystemdScheduler(true).planInstall(stack(), testContext());
    await plan.execute(testContext(signal));
    assert.ok(signal.aborted);
    const calls = (await readFile(join(root, 'calls'), 'utf8')).trimEnd().split('\n');
    assert.equal(calls.at(-1), plan.commands.at(-1)?.slice(1).join(' '));
  });
});

const hasSystemd = existsSync('/usr/bin/systemd-analyze');
test(
  'systemd takes the units without a complaint',
  { skip: !hasSystemd && 'no systemd-analyze here' },
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tars-units-'));
    try {
      for (const user of [false, true]) {
        const command = [process.execPath, '/opt/tars/main.js', '--config', oddPath];
        const units = systemdUnits(stack({ command, stack: user ? 'mine' : 'home' }), user);
        const backup = units.get(`tars-${user ? 'mine' : 'home'}-backup.service`) ?? '';
        assert.ok(
          backup.includes(String.raw`--config "/opt/a b/50%% $$off/\"q'uo\\te\".yaml" backup`),
          backup,
        );
        for (const [name, text] of units) await writeFile(join(directory, name), text);
        const paths = [...units.keys()].map((name) => join(directory, name));
        const flags = ['verify', '--man=no', user ? '--user' : '--system', ...paths];
        const said = await promisify(execFile)('/usr/bin/systemd-analyze', flags, {
          env: { ...process.env, XDG_RUNTIME_DIR: directory },
        });
        // Other units of the machine that these draw in may have complaints of their own.
        const ours = said.stderr.split('\n').filter((line) => line.includes('tars-'));
        assert.deepEqual(ours, []);
      }
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
);
