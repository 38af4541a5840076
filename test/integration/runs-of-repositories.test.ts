import assert from 'node:assert/strict';
import { appendFile, cp, mkdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createStore, runLogOf, stackClaimsOf } from '../../src/composition/index.ts';
import { RepositoryLockedError } from '../../src/model/errors.ts';
import { recoverInterrupted } from '../../src/operations/restore/recover.ts';
import type { RestoreTarget } from '../../src/operations/restore/target.ts';
import type { RestoreJournalEntry, RestoreOrigin } from '../../src/ports/journal.ts';
import { loadSettings } from '../../src/composition/settings.ts';
import type { Settings } from '../../src/settings/load.ts';
import { createFileJournal } from '../../src/storage/journal/file-journal.ts';
import { tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { password, type RepositoryDirectory } from '../fixtures/repositories.ts';
import { removeTemplate, startShelf, writeSettings } from '../fixtures/retention.ts';

let directory: RepositoryDirectory;
let config: string[];
before(async () => {
  directory = (await startShelf([])).directory;
  config = await writeSettings(directory.root, { schedule: { backup: '0 0 1 1 *' } });
});
after(async () => {
  await directory[Symbol.asyncDispose]();
  await removeTemplate();
});

const settings = (): Promise<Settings> => loadSettings(config[1], {});
/** Whether `tars status` knows a backup. What starts the schedule differs from machine to machine. */
const status = async (): Promise<'backed up' | 'waiting'> => {
  const { stdout } = await tars([...config, 'status']);
  return stdout.includes('No backup is recorded here yet') ? 'waiting' : 'backed up';
};
const runs = async (): Promise<number> => runLogOf(await settings()).runs().length;

test('a new repository in the place of an old one was never backed up into; the old one keeps its record', async () => {
  assert.equal((await tars([...config, 'backup'])).exitCode, 0);
  assert.equal(await status(), 'backed up');
  const old = await settings();
  await rename(directory.path, `${directory.path}.old`);
  assert.equal(await status(), 'backed up', 'its disk is not mounted');
  await createStore(directory.path, password, testContext());
  assert.equal(await status(), 'waiting');
  assert.equal(await runs(), 0);
  using _work = await stackClaimsOf(old).claim('work', 'backup', new Date());
  await assert.rejects(stackClaimsOf(old).claim('work', 'backup', new Date()), RepositoryLockedError);
  await rm(directory.path, { recursive: true });
  await rename(`${directory.path}.old`, directory.path);
  (await stackClaimsOf(old).claim('work', 'backup', new Date()))[Symbol.dispose]();
  assert.equal(await status(), 'backed up');

  // A copy is the same repository, wherever it lies.
  await cp(directory.path, join(directory.root, 'moved'), { recursive: true });
  await writeSettings(directory.root, { repository: { path: 'moved', password_file: 'key' } });
  assert.equal(await status(), 'backed up');
  assert.equal(await runs(), 1);
  await writeSettings(directory.root, { host: 'another-box' });
  assert.equal(await runs(), 0, 'another host');
  config = await writeSettings(directory.root, { schedule: { backup: '0 0 1 1 *' } });
});

test('what 1.0.12 recorded counts for a repository that was there already, and for no newer one', async () => {
  const path = join(directory.root, 'state/runs/lab.runs.jsonl');
  await mkdir(join(directory.root, 'state/runs'), { recursive: true });
  const at = new Date(Date.now() - 3_600_000).toISOString();
  const started = { type: 'started', id: 'old', verb: 'backup', options: [], pid: 1, processStart: '1', at };
  const finished = { type: 'finished', id: 'old', at, end: { exitCode: 0, outcome: 'ok' } };
  await writeFile(path, '');
  await appendFile(path, `${JSON.stringify(started)}\n${JSON.stringify(finished)}\n`);
  const repositoryConfig = join(directory.path, 'config');
  assert.equal(await status(), 'waiting');
  const before = new Date(Date.now() - 7_200_000);
  await utimes(repositoryConfig, before, before);
  assert.equal(await status(), 'backed up');
  assert.match(await readFile(path, 'utf8'), /"id":"old"/, 'it is read, not changed');
});

test('two stacks of one name do not take the other one’s cut-off restore for theirs', async () => {
  const journal = createFileJournal(join(directory.root, 'restores'));
  const own: RestoreOrigin = { host: 'box', repository: 'r1', settings: '/etc/tars/tars.yaml' };
  const entry = (restoreId: string, origin?: RestoreOrigin): RestoreJournalEntry => ({
    ...{ restoreId, stack: 'docker', snapshot: 'ab', startedAt: '2026-11-24T00:00:00Z', phase: 'staging' },
    ...{ components: [], stopped: [], offline: [], records: [], origin },
  });
  const entries: Record<string, RestoreOrigin | undefined> = {
    old: undefined,
    same: own,
    moved: { ...own, settings: '/home/op/tars.yaml' },
    renewed: { ...own, repository: 'r2' },
    other: { ...own, repository: 'r2', settings: '/srv/two/tars.yaml' },
    machine: { ...own, host: 'nas' },
  };
  for (const [id, origin] of Object.entries(entries)) {
    await journal.write(entry(id, origin));
    // Nobody holds it: it was cut off.
    const path = join(directory.root, `restores/restore-${id}.json`);
    const file = JSON.parse(await readFile(path, 'utf8')) as object;
    await writeFile(path, JSON.stringify({ ...file, pid: 1, processStart: 'gone' }));
  }
  const warned: string[] = [];
  const ctx = testContext();
  const noisy = { ...ctx, log: { ...ctx.log, warn: (text: string) => void warned.push(text) } };
  const runtime = { discover: () => Promise.resolve([]) } as unknown as RestoreTarget['runtime'];
  await recoverInterrupted({ stack: 'docker', origin: own, components: [], runtime }, journal, noisy);
  const left = (await journal.pending()).map((pending) => pending.entry.restoreId).sort();
  assert.deepEqual(left, ['machine', 'other']);
  const said = warned.join('\n');
  assert.match(
    said,
    /another stack named docker was interrupted: it belongs to \/srv\/two\/tars\.yaml on box/,
  );
  assert.match(said, /Run tars --config \/srv\/two\/tars\.yaml verify, which recovers it/);
  assert.match(said, /If this machine was called nas, set host: nas in tars\.yaml/);
});

test('a restore that this very process, or a living one, could not put right is put right at the next try', async () => {
  const journal = createFileJournal(join(directory.root, 'own'));
  const entry: RestoreJournalEntry = {
    ...{ restoreId: 'mine', stack: 'docker', snapshot: 'ab', startedAt: '2026-11-24T00:00:00Z' },
    ...{ phase: 'staging', components: ['store'], stopped: [], offline: [], records: [] },
  };
  let broken = true;
  const store = {
    name: 'store',
    removeStaged: () => (broken ? Promise.reject(new Error('it is busy')) : Promise.resolve()),
  } as unknown as RestoreTarget['components'][number];
  const runtime = { discover: () => Promise.resolve([]) } as unknown as RestoreTarget['runtime'];
  const target = { stack: 'docker', components: [store], runtime };
  const recover = () => recoverInterrupted(target, journal, testContext());
  const left = async () => (await journal.pending()).map(({ alive }) => alive);
  await journal.write(entry);
  await recover();
  assert.deepEqual(await left(), [false], 'it is named, and nobody is at work');
  // As 1.0.12 left it: the process that failed lives on, and is taken for one that restores.
  await journal.write(entry);
  assert.deepEqual(await left(), [true]);
  {
    await using _claim = await createFileJournal(join(directory.root, 'own')).claim();
    await assert.rejects(recover(), /Another process is restoring/);
  }
  broken = false;
  await recover();
  assert.deepEqual(await left(), []);
});
