import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { cliPath } from '../fixtures/cli.ts';
import { eventually } from '../fixtures/processes.ts';
import { bootSystemd, whyNoSystemd, type SystemdMachine } from '../fixtures/systemd-machine.ts';

const skip = await whyNoSystemd();

/** A writer that counts. */
const writerUnit = `[Service]
ExecStart=/bin/sh -c 'i=0; while :; do i=$$((i+1)); echo $$i >/srv/count; sleep 0.01; done'
`;
/** Runs, and has no main process. */
const processlessUnit = `[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
`;
const settings = {
  version: 1,
  stack: 'timed',
  repository: { path: '/srv/repository', password_file: '/srv/key' },
  ...{ state_dir: '/srv/state', scratch_dir: '/srv/scratch' },
  components: { config: { files: ['/srv/app.env'] } },
  services: { app: { systemd_unit: 'app', writer: true } },
  // A busy machine is no reason for less than a cut.
  pause_max_ms: 60_000,
  schedule: { backup: '0 3 * * *', check: '0 5 * * sun' },
};

let root: string;
let machine: SystemdMachine;
before(async () => {
  if (skip !== false) return;
  root = await mkdtemp(join(tmpdir(), 'tars-machine-'));
  await mkdir(join(root, 'scratch'));
  await writeFile(join(root, 'key'), 'quite-long-enough\n', { mode: 0o600 });
  await writeFile(join(root, 'app.env'), 'LOG_LEVEL=info\n');
  await writeFile(join(root, 'app.service'), writerUnit);
  await writeFile(join(root, 'processless.service'), processlessUnit);
  await configure({});
  machine = await bootSystemd(root);
  await run('cp', '/srv/app.service', '/srv/processless.service', '/etc/systemd/system/');
  await run('systemctl', 'daemon-reload');
  await run('systemctl', 'start', 'app', 'processless');
  await tars('init');
});
after(async () => {
  if (skip !== false) return;
  await machine[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

const configure = (changed: Record<string, unknown>): Promise<void> =>
  writeFile(join(root, 'tars.yaml'), stringify({ ...settings, ...changed }), { mode: 0o600 });

async function run(...argv: readonly string[]): Promise<string> {
  const { exitCode, all } = await machine.run(argv);
  assert.equal(exitCode, 0, all);
  return all;
}

const tarsCommand = [process.execPath, cliPath, '--config', '/srv/tars.yaml'];
const tars = (...args: readonly string[]): Promise<string> => run(...tarsCommand, ...args);

async function newest(): Promise<{ consistency: string; writerPauseMs?: number }> {
  const { stdout } = await machine.run([...tarsCommand, 'show', '--json']);
  return (JSON.parse(stdout) as { manifest: { consistency: string; writerPauseMs?: number } }).manifest;
}

const count = (): Promise<string> => readFile(join(root, 'count'), 'utf8');

async function countsOn(): Promise<void> {
  const before = await count();
  await eventually('the writer writes on', async () => Number(await count()) > Number(before));
}

test(
  'the units of the system are installed, run hardened, pause a writer that is a unit, and are gone once removed',
  { skip },
  async () => {
    const installed = await tars('schedule', 'install');
    assert.match(installed, /\/etc\/systemd\/system\/tars-timed-backup\.timer/);
    const timers = await run('systemctl', 'list-timers', '--all', '--no-legend');
    assert.match(timers, /tars-timed-backup\.timer/);
    assert.match(timers, /tars-timed-check\.timer/);

    await run('systemctl', 'start', 'tars-timed-backup.service');
    const { consistency, writerPauseMs } = await newest();
    assert.equal(consistency, 'cut');
    assert.ok(writerPauseMs !== undefined && writerPauseMs > 0);
    await countsOn();
    await run('systemctl', 'start', 'tars-timed-check.service');
    const properties = await run(
      ...['systemctl', 'show', '--property=Result,ProtectSystem,NoNewPrivileges'],
      'tars-timed-backup.service',
    );
    assert.deepEqual(properties.split('\n').sort(), [
      'NoNewPrivileges=yes',
      'ProtectSystem=full',
      'Result=success',
    ]);
    const status = await tars('status');
    assert.match(status, /Last backup .* snapshot/);
    assert.match(status, /Last check .* every byte read/);

    await tars('schedule', 'remove');
    assert.equal(await run('systemctl', 'list-timers', '--all', '--no-legend', 'tars-*'), '');
    assert.doesNotMatch(await run('ls', '/etc/systemd/system'), /tars-/);
  },
);

test(
  'a unit that runs without a main process cannot be paused, and the snapshot says so',
  { skip },
  async () => {
    await configure({ services: { app: { systemd_unit: 'processless', writer: true } } });
    const said = await tars('backup');
    assert.match(said, /The writer app cannot be paused: systemd reports no main process for it/);
    assert.equal((await newest()).consistency, 'per-store');
  },
);

test('a unit that does not run is nothing to pause', { skip }, async () => {
  await configure({ services: { app: { systemd_unit: 'nobody-installed-this', writer: true } } });
  await tars('backup');
  const { consistency, writerPauseMs } = await newest();
  assert.deepEqual({ consistency, writerPauseMs }, { consistency: 'cut', writerPauseMs: undefined });
});

test(
  'a unit whose main process was paused by somebody else is told to be paused, and is not resumed',
  { skip },
  async () => {
    await configure({});
    await run('systemctl', 'kill', '--signal=STOP', '--kill-who=main', 'app');
    await tars('backup');
    assert.equal((await newest()).writerPauseMs, undefined);
    const { all } = await machine.run([...tarsCommand, 'doctor']);
    assert.match(all, /app is paused/);
    await run('systemctl', 'kill', '--signal=CONT', '--kill-who=main', 'app');
    await countsOn();
  },
);
