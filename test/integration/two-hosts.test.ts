import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { removeTemplate, startShelf } from '../fixtures/retention.ts';
import type { RepositoryDirectory } from '../fixtures/repositories.ts';

/** Two machines, each with its own content of the same directory, whose `tars.yaml` have one stack name and repository. */
const hosts = ['alpha', 'beta'] as const;
type Host = (typeof hosts)[number];

let directory: RepositoryDirectory;
const newest: Partial<Record<Host, string>> = {};
before(async () => {
  const shelf = await startShelf([]);
  directory = shelf.directory;
  for (const host of hosts) {
    await settings(host, {});
    await writeData(`I am ${host}`);
    const { exitCode, stdout, stderr } = await on(host, 'backup', '--json');
    assert.equal(exitCode, 0, stderr);
    newest[host] = (JSON.parse(stdout) as { snapshot: string }).snapshot;
  }
});
after(async () => {
  await directory[Symbol.asyncDispose]();
  await removeTemplate();
});

/** What is live on the machine that a test is about. */
const writeData = (text: string): Promise<void> => writeFile(join(directory.root, 'srv/who'), text);
const readData = (): Promise<string> => readFile(join(directory.root, 'srv/who'), 'utf8');

/** The `tars.yaml` of a machine called `name`, whose host name is another one where `more` says so. */
async function settings(name: string, more: Record<string, unknown>): Promise<void> {
  const root = join(directory.root, name);
  await mkdir(join(directory.root, 'srv'), { recursive: true });
  await mkdir(join(root, 'scratch'), { recursive: true });
  const value = {
    ...{ version: 1, stack: 'shared', host: name },
    repository: { path: directory.path, password_file: join(directory.root, 'key') },
    ...{ scratch_dir: 'scratch', state_dir: 'state', retention: { keep_last: 1 } },
    components: { data: { kind: 'files', paths: ['../srv'] } },
    ...more,
  };
  await writeFile(join(root, 'tars.yaml'), stringify(value), { mode: 0o600 });
}

const on = (name: string, ...args: string[]): Promise<CliRun> =>
  tars(['--config', join(directory.root, name, 'tars.yaml'), ...args]);

const shown = async (name: string, ...args: string[]): Promise<string> => {
  const { exitCode, stdout, stderr } = await on(name, 'show', ...args, '--json');
  assert.equal(exitCode, 0, stderr);
  return (JSON.parse(stdout) as { summary: { id: string } }).summary.id;
};

test('latest is of this host, and forget counts its snapshots alone', async () => {
  assert.equal(await shown('alpha'), newest.alpha, 'beta has a newer one of the same stack');
  await writeData('broken');
  const restored = await on('alpha', 'restore', '--yes');
  assert.equal(restored.exitCode, 0, restored.stderr);
  assert.equal(await readData(), 'I am alpha');

  const forgotten = await on('alpha', 'forget', '--yes');
  assert.equal(forgotten.exitCode, 0, forgotten.stderr);
  assert.match(forgotten.stdout, /^Stack shared on alpha: removed 0 snapshots, 1 kept$/m);
  assert.match(forgotten.stdout, /^Not considered: snapshots taken on beta/m);
  const all = await on('beta', 'forget', '--all-hosts', '--dry-run');
  assert.match(all.stdout, /^Stack shared on alpha: would remove 0 snapshots, 1 kept$/m);
  assert.match(all.stdout, /^Stack shared on beta: would remove 0 snapshots, 1 kept$/m);
  assert.deepEqual((await readdir(join(directory.path, 'snapshots'))).sort(), Object.values(newest).sort());
  assert.match((await on('alpha', 'snapshots')).stdout, /shared +alpha .*\n.*shared +beta /);
});

test("another host's snapshot is restored only where that host is named", async () => {
  const foreign = newest.beta ?? '';
  await writeData('mine');
  const plan = await on('alpha', 'restore', foreign, '--dry-run');
  assert.equal(plan.exitCode, 0, plan.stderr);
  assert.match(plan.stdout, /of shared on beta, taken/);
  assert.match(plan.stdout, /Warning: Snapshot [0-9a-f]{8} was taken on beta; this is alpha/);
  for (const yes of [[], ['--yes']]) {
    const refused = await on('alpha', 'restore', foreign, ...yes);
    assert.equal(refused.exitCode, 1);
    assert.match(refused.stderr, /was taken on the host beta, and this is alpha/);
    assert.match(refused.stderr, /add --from-host beta\./);
  }
  const mistaken = await on('alpha', 'restore', newest.alpha ?? '', '--from-host', 'beta', '--yes');
  assert.match(mistaken.stderr, /was taken on host alpha, not on beta/);
  assert.equal(await readData(), 'mine');
  assert.equal(await shown('alpha', '--from-host', 'beta'), foreign);
  const named = await on('alpha', 'restore', 'latest', '--from-host', 'beta', '--yes');
  assert.equal(named.exitCode, 0, named.stderr);
  assert.equal(await readData(), 'I am beta');
  const compared = await on('alpha', 'verify', '--from-host', 'beta');
  assert.match(compared.stdout, new RegExp(`^data: as in snapshot ${foreign.slice(0, 8)}$`, 'm'));
  const unknown = await on('alpha', 'restore', '--from-host', 'delta', '--yes');
  assert.match(
    unknown.stderr,
    /no snapshot of stack "shared" on host "delta"; there are snapshots of alpha \(1/,
  );
});

test('a new machine is told which hosts there are, and may continue as one of them', async () => {
  await settings('gamma', {});
  const lost = await on('gamma', 'restore', '--dry-run');
  assert.equal(lost.exitCode, 1);
  assert.match(
    lost.stderr,
    /no snapshot of stack "shared" on host "gamma"; there are snapshots of alpha \(1 snapshot, the newest of 20.* UTC\), beta \(1 /,
  );
  assert.match(lost.stderr, /tars restore latest --from-host alpha\. If this machine was renamed/);
  const seen = await on('gamma', 'doctor');
  assert.match(seen.stdout, /Other hosts took snapshots of this stack: alpha \(1/);

  await settings('gamma', { host: 'beta' });
  const renamed = await on('gamma', 'restore', '--yes');
  assert.equal(renamed.exitCode, 0, renamed.stderr);
  assert.equal(await readData(), 'I am beta');
});

test('where one other host alone has snapshots, the plan takes its newest and asks', async () => {
  await settings('old-box', { stack: 'moved' });
  await writeData('from the old box');
  assert.equal((await on('old-box', 'backup')).exitCode, 0);
  await settings('new-box', { stack: 'moved' });
  await writeData('empty');
  const refused = await on('new-box', 'restore', '--yes');
  assert.match(refused.stderr, /was taken on the host old-box, and this is new-box/);
  assert.match(refused.stderr, /add --from-host old-box\..*set host: old-box in tars\.yaml/);
  assert.equal(await readData(), 'empty');
  const named = await on('new-box', 'restore', '--from-host', 'old-box', '--yes');
  assert.equal(named.exitCode, 0, named.stderr);
  assert.equal(await readData(), 'from the old box');
});

test('archives of two hosts in one directory are counted by host', async () => {
  const shelf = join(directory.root, 'nas');
  await mkdir(shelf);
  for (const host of hosts) {
    const made = await on(host, 'backup', '--output-dir', shelf, '--keep-last', '1');
    assert.equal(made.exitCode, 0, made.stderr);
  }
  const archives = (await readdir(shelf)).filter((name) => !name.endsWith('.sha256')).sort();
  assert.equal(archives.length, 2, 'the second host did not remove the archive of the first');
  await writeData('still mine');
  const refused = await on('beta', 'restore', '--backup-file', join(shelf, archives[0] ?? ''), '--yes');
  assert.match(refused.stderr, /was taken on the host alpha, and this is beta/);
  assert.equal(await readData(), 'still mine');
});

test('the recovery kit takes the snapshot of its own host out', async () => {
  const { stdout, stderr } = await on('alpha', 'key', 'export', '--print');
  assert.match(stdout, /restic restore latest --host alpha --path \/tars\/shared/, stderr);
});
