import assert from 'node:assert/strict';
import { execa } from 'execa';
import { access, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { isCampaign } from '../fixtures/campaign.ts';
import { cliPath, tars } from '../fixtures/cli.ts';
import { eventually } from '../fixtures/processes.ts';

const manager = '/lib/systemd/systemd';
const isThere = await access(manager).then(
  () => true,
  () => false,
);
/** The timer's minute has to come. */
const skip = !isCampaign
  ? 'only in a campaign'
  : !isThere || process.getuid?.() !== 0
    ? 'needs systemd and root'
    : false;

/**
 * A manager of user units, where this machine was not started by systemd: it only looks for that directory. Lives in a
 * mount namespace of its own, until the input ends.
 */
const underSystemd = `
mount -t tmpfs none /run
mkdir -p /run/systemd/system
"$1" --user & manager=$!
until systemctl --user is-system-running >/dev/null 2>&1; do sleep 0.1; done
shift
"$@" install --systemd --user
"$@" status --systemd --user
echo ready
read -r _ || true
"$@" remove --systemd --user
kill "$manager"
wait "$manager" || true
`;

test('a systemd timer takes the backup at its time, and is gone once removed', { skip }, async () => {
  const root = await mkdtemp(join(tmpdir(), 'tars-systemd-'));
  try {
    const runtimeDir = join(root, 'run');
    await mkdir(runtimeDir, { mode: 0o700 });
    await mkdir(join(root, 'scratch'));
    await writeFile(join(root, 'key'), 'quite-long-enough\n', { mode: 0o600 });
    await writeFile(join(root, 'app.env'), 'LOG_LEVEL=info\n');
    const settings = {
      version: 1,
      stack: 'timed',
      repository: { path: 'repository', password_file: 'key' },
      ...{ state_dir: 'state', scratch_dir: 'scratch' },
      components: { config: { files: ['app.env'] } },
      schedule: { backup: '* * * * *', randomized_delay_minutes: 0 },
    };
    const config = join(root, 'tars.yaml');
    await writeFile(config, stringify(settings), { mode: 0o600 });
    const { exitCode, stderr } = await tars(['--config', config, 'init']);
    assert.equal(exitCode, 0, stderr);

    const words = [process.execPath, cliPath, '--config', config, 'schedule'];
    const child = execa('unshare', ['--mount', 'sh', '-euc', underSystemd, 'sh', manager, ...words], {
      ...{ all: true, reject: false, env: { HOME: root, XDG_RUNTIME_DIR: runtimeDir } },
    });
    const lastBackup = async (): Promise<unknown> => {
      const { stdout } = await tars(['--config', config, 'status', '--json']);
      return (JSON.parse(stdout) as { last: { backup?: unknown } }).last.backup;
    };
    await eventually('The timer fires', async () => (await lastBackup()) !== undefined, 120_000);
    child.stdin.end();
    const ended = await child;
    assert.equal(ended.exitCode, 0, ended.all);
    assert.match(ended.all, /Installed with systemd/);
    assert.match(ended.all, /^backup +\* \* \* \* \* +due now$/m, 'nothing was backed up when it was asked');
    assert.deepEqual(await readdir(join(root, '.config/systemd/user')), [], ended.all);
    const { stdout } = await tars(['--config', config, 'snapshots', '--json']);
    assert.ok((JSON.parse(stdout) as unknown[]).length > 0);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
