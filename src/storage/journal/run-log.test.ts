import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdtemp, mkdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { end } from '../../../test/fixtures/processes.ts';
import { runOwner } from '../../../test/fixtures/run-owner.ts';
import { RepositoryLockedError } from '../../model/errors.ts';
import type { RunEnd } from '../../ports/run-log.ts';
import { createRepositoryMark } from './repository-mark.ts';
import { createRunLog } from './run-log.ts';
import { createStackClaims } from './stack-claims.ts';

let root: string;
before(async () => void (root = await mkdtemp(join(tmpdir(), 'tars-run-log-'))));
after(() => rm(root, { recursive: true, force: true }));

const ok: RunEnd = { exitCode: 0, outcome: 'ok' };
const minute = (count: number): Date => new Date(Date.UTC(2026, 10, 24, 0, count));

async function claimingChild(directory: string): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('../../../test/fixtures/claiming-child.ts', import.meta.url));
  const child = spawn(process.execPath, [script, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

test('a run is recorded as started, then as finished, in a private file', async () => {
  const directory = join(root, 'plain');
  const log = createRunLog(directory, runOwner('home'));
  assert.deepEqual(log.runs(), []);
  const run = log.begin({ verb: 'backup', options: ['only'] }, minute(0));
  const [running] = log.runs();
  assert.equal(running?.state, 'running');
  const failed: RunEnd = {
    ...{ exitCode: 1, outcome: 'failed', snapshot: 'abc', capturedBytes: 7, addedBytes: 3 },
    error: { code: 'no-space', message: 'long '.repeat(1000) },
  };
  run.finish(failed, minute(1));
  const [finished, ...more] = log.runs();
  assert.equal(more.length, 0);
  assert.equal(finished?.state, 'finished');
  assert.deepEqual([finished.startedAt, finished.finishedAt], [minute(0), minute(1)]);
  assert.deepEqual(finished.options, ['only']);
  assert.equal(finished.end?.snapshot, 'abc');
  assert.equal(finished.end.error?.message.length, 2000, 'bounded');
  assert.equal((await stat(join(directory, 'home.runs.jsonl'))).mode & 0o777, 0o600);
  assert.equal(createRunLog(directory, runOwner('other')).runs().length, 0, 'each stack has its own');
});

test('a line that a crash cut off is passed over, and the next one stands alone', async () => {
  const log = createRunLog(root, runOwner('torn'));
  log.begin({ verb: 'backup', options: [] }, minute(0)).finish(ok, minute(1));
  await appendFile(join(root, 'torn.runs.jsonl'), '{"type":"started","id":"half');
  log.begin({ verb: 'check', options: [] }, minute(2)).finish(ok, minute(3));
  assert.deepEqual(
    log.runs().map(({ verb, state }) => `${verb} ${state}`),
    ['backup finished', 'check finished'],
  );
});

test('it stays bounded, and keeps when each verb last went well', async () => {
  const line = (verb: string, index: number, outcome: string): string => {
    const common = { id: `${verb}${index}`, at: minute(index).toISOString() };
    const started = { ...common, type: 'started', verb, options: [], pid: 1, processStart: 'x' };
    const finished = { ...common, type: 'finished', end: { exitCode: 0, outcome } };
    return `${JSON.stringify(started)}\n${JSON.stringify(finished)}\n`;
  };
  const old = [
    line('check', 0, 'ok'),
    line('check', 1, 'failed'),
    line('forget', 2, 'ok'),
    line('backup', 3, 'ok'),
  ];
  const failures = Array.from({ length: 800 }, (_, index) => line('backup', 4 + index, 'failed'));
  await writeFile(join(root, 'full.runs.jsonl'), [...old, ...failures].join(''), { mode: 0o600 });
  const log = createRunLog(root, runOwner('full'));
  log.begin({ verb: 'prune', options: [] }, minute(900)).finish(ok, minute(901));
  const runs = log.runs();
  assert.deepEqual(
    runs.slice(0, 4).map(({ id }) => id),
    ['check0', 'check1', 'forget2', 'backup3'],
  );
  assert.equal(runs.at(-1)?.verb, 'prune');
  assert.ok(runs.length <= 505, String(runs.length));
  const lines = (await readFile(join(root, 'full.runs.jsonl'), 'utf8')).trimEnd().split('\n');
  assert.ok(lines.length <= 1010);
});

test('writers at once lose nothing', async () => {
  const script = fileURLToPath(new URL('../../../test/fixtures/recording-child.ts', import.meta.url));
  const writers = Array.from({ length: 3 }, () =>
    spawn(process.execPath, [script, root, '40'], { stdio: ['ignore', 'ignore', 'inherit'] }),
  );
  await Promise.all(writers.map((writer) => once(writer, 'exit')));
  const runs = createRunLog(root, runOwner('home')).runs();
  assert.equal(runs.filter(({ state }) => state === 'finished').length, 120);
});

test('another run is kept out by name, pid and time; a killed one keeps nobody out, and shows as killed', async () => {
  const directory = join(root, 'claims');
  const child = await claimingChild(directory);
  const claims = createStackClaims(directory, runOwner('home'));
  const log = createRunLog(directory, runOwner('home'));
  try {
    await assert.rejects(claims.claim('work', 'restore', minute(0)), (error) => {
      assert.ok(error instanceof RepositoryLockedError);
      assert.equal(
        error.message,
        `A tars backup of home is running in another process (pid ${child.pid}, since 2026-11-24T02:30:00Z)`,
      );
      return true;
    });
    assert.equal((await claims.holder('work'))?.pid, child.pid);
    (await claims.claim('check', 'check', minute(0)))[Symbol.dispose]();
    (await createStackClaims(directory, runOwner('other')).claim('work', 'backup', minute(0)))[
      Symbol.dispose
    ]();
    assert.equal(log.runs()[0]?.state, 'running');
  } finally {
    await end(child);
  }
  assert.equal(await claims.holder('work'), undefined);
  const claim = await claims.claim('work', 'backup', minute(0));
  assert.equal((await claims.holder('work'))?.pid, process.pid);
  claim[Symbol.dispose]();
  assert.equal(await claims.holder('work'), undefined);
  assert.equal(log.runs()[0]?.state, 'killed');
});

test('each repository and each host has runs and claims of its own', async () => {
  const directory = join(root, 'owners');
  const known = [{ id: 'first' }, { id: 'second' }];
  const owners = [
    runOwner('home', 'box', known[0]),
    runOwner('home', 'box', known[1]),
    runOwner('home', 'nas'),
  ];
  for (const [index, owner] of owners.entries()) {
    createRunLog(directory, owner)
      .begin({ verb: 'backup', options: [] }, minute(index))
      .finish(ok, minute(index + 1));
  }
  for (const [index, owner] of owners.entries()) {
    const starts = createRunLog(directory, owner)
      .runs()
      .map(({ startedAt }) => startedAt);
    assert.deepEqual(starts, [minute(index)]);
  }
  using _first = await createStackClaims(directory, owners[0]!).claim('work', 'backup', minute(0));
  (await createStackClaims(directory, owners[1]!).claim('work', 'backup', minute(0)))[Symbol.dispose]();
  (await createStackClaims(directory, owners[2]!).claim('work', 'backup', minute(0)))[Symbol.dispose]();
  await assert.rejects(createStackClaims(directory, owners[0]!).claim('work', 'backup', minute(0)));
});

test('of what 1.0.12 recorded, a repository takes the runs that are not older than itself', async () => {
  const line = (id: string, at: Date): string => {
    const common = { id, at: at.toISOString() };
    const started = { ...common, type: 'started', verb: 'backup', options: [], pid: 1, processStart: 'x' };
    return `${JSON.stringify(started)}\n${JSON.stringify({ ...common, type: 'finished', end: ok })}\n`;
  };
  await writeFile(join(root, 'old.runs.jsonl'), line('before', minute(0)) + line('after', minute(2)));
  const idsFor = (since: Date | undefined): string[] =>
    createRunLog(root, runOwner('old', 'box', { id: 'first', since }))
      .runs()
      .map(({ id }) => id);
  assert.deepEqual(idsFor(minute(1)), ['after']);
  assert.deepEqual(idsFor(minute(3)), [], 'a new repository is never backed up into');
  assert.deepEqual(idsFor(undefined), ['before', 'after'], 'while it cannot be looked at');
});

test('what 1.0.12 recorded of retention is understood, and it understands what is recorded now', async () => {
  const directory = join(root, 'retention');
  const file = join(directory, 'home.runs.jsonl');
  const log = createRunLog(directory, runOwner('home'));
  const retention = {
    ...{ heldBack: ['redis has 1 key'], letGo: ['postgres'], ahead: [{ id: 'abc', time: minute(9) }] },
    command: 'tars forget --keep-last 3 --allow-shrunk',
  };
  log.begin({ verb: 'forget', options: [] }, minute(0)).finish({ ...ok, retention }, minute(1));
  assert.deepEqual(log.runs()[0]?.end?.retention, retention);
  const [, finished = ''] = (await readFile(file, 'utf8')).split('\n');
  assert.match(finished, /"cure":"tars forget --keep-last 3 --allow-shrunk","letGo":\["postgres"\]/);
  const former = { ...retention, command: undefined, cure: 'tars forget --allow-shrunk', failure: 'locked' };
  const common = { id: 'former', at: minute(2).toISOString() };
  const started = { ...common, type: 'started', verb: 'backup', options: [], pid: 1, processStart: 'x' };
  const ended = { ...common, type: 'finished', end: { ...ok, retention: former } };
  await appendFile(file, `${JSON.stringify(started)}\n${JSON.stringify(ended)}\n`);
  assert.deepEqual(log.runs()[1]?.end?.retention, {
    ...{ ...retention, command: 'tars forget --allow-shrunk', failure: 'locked' },
  });
});

test('a repository is known by its config file, and by what was there last while its disk is away', async () => {
  const [directory, repository] = [join(root, 'marks'), join(root, 'repository')];
  const mark = createRepositoryMark(directory, repository);
  assert.deepEqual(mark.read(), {}, 'none was ever there');
  await mkdir(repository);
  await writeFile(join(repository, 'config'), 'sealed');
  await utimes(join(repository, 'config'), minute(5), minute(5));
  const first = mark.read();
  assert.deepEqual(first.since, minute(5));
  mark.remember();
  await rm(repository, { recursive: true });
  assert.deepEqual(createRepositoryMark(directory, repository).read(), first);
  assert.deepEqual(createRepositoryMark(directory, join(root, 'elsewhere')).read(), {});
  await mkdir(repository);
  await writeFile(join(repository, 'config'), 'another');
  assert.notEqual(mark.read().id, first.id);
});
