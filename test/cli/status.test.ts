import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { RunEnd } from '../../src/ports/run-log.ts';
import { journalOf, runLogOf } from '../../src/composition/index.ts';
import { loadSettings } from '../../src/composition/settings.ts';
import { tars } from '../fixtures/cli.ts';
import { startSmallStack, type SmallStack } from '../fixtures/small-stack.ts';

let stack: SmallStack;
before(async () => {
  stack = await startSmallStack();
});
after(() => stack[Symbol.asyncDispose]());

/** Its time comes on New Year's night only. */
const schedule = { backup: '0 0 1 1 *' };
const yearAgo = (): Date => new Date(Date.now() - 366 * 86_400_000);

test('a stack that was just set up waits for its first backup, and fails once its time was missed', async () => {
  const config = await stack.changed({ stack: 'fresh', schedule });
  const { exitCode, stdout } = await tars([...config, 'status']);
  assert.equal(exitCode, 0, stdout);
  assert.match(stdout, /^fresh: warning\n {2}No backup is recorded here yet: the first one is due at/);
  assert.match(
    stdout.replaceAll(/\s+/g, ' '),
    /Nothing on this machine starts the schedule .* Run tars schedule install/,
  );
  assert.match(stdout, /^ {2}Next backup +20\d\d-01-01 00:00, if a scheduler started it$/m);
  const value = JSON.parse((await tars([...config, 'status', '--json'])).stdout) as Record<string, unknown>;
  assert.equal(value['verdict'], 'warning');
  assert.equal(value['started'], false);
  assert.match(String(value['firstDue']), /^20\d\d-/);
  await utimes(config[1] ?? '', yearAgo(), yearAgo());
  assert.equal((await tars([...config, 'status'])).exitCode, 0, 'the repository is younger than that time');
  await utimes(join(stack.root, 'repository/config'), yearAgo(), yearAgo());
  const missed = await tars([...config, 'status']);
  assert.equal(missed.exitCode, 1);
  assert.match(missed.stdout, /^fresh: failing\n {2}No backup is recorded here, though one was due at/);
  assert.match(missed.stdout, /Nothing on this machine starts/);
});

test('without a schedule, no backup is a complaint', async () => {
  const { exitCode, stdout } = await tars([...(await stack.changed({ stack: 'unset' })), 'status']);
  assert.equal(exitCode, 1);
  assert.match(stdout, /^unset: failing\n {2}No backup is recorded here, and none is scheduled$/m);
});

test('what restores left is named with the line that removes it, and changes no exit code', async () => {
  const components = { config: { files: ['app.env'] }, files: { paths: [join(stack.root, 'link')] } };
  await mkdir(join(stack.root, 'real'));
  await symlink('real', join(stack.root, 'link'));
  const config = await stack.changed({ stack: 'left', schedule, components });
  const before = await tars([...config, 'status']);
  assert.doesNotMatch(before.stdout, /a restore left/);
  const left = `${stack.appEnv}.tars-prev-1a2b3c4d`;
  await writeFile(left, 'LOG_LEVEL=debug\n');
  const record = { component: 'config', kind: 'config', wayBack: [`mv ${left} app.env`], details: {} };
  await journalOf(await loadSettings(config[1], {})).write({
    ...{ restoreId: '1a2b3c4d', stack: 'left', snapshot: 'ab', startedAt: '2026-11-24T00:00:00Z' },
    ...{ phase: 'done', components: ['config'], stopped: [], offline: [], records: [record] },
  });
  await mkdir(join(stack.root, 'real.tars-prev-1a2b3c4d'));
  try {
    const { exitCode, stdout } = await tars([...config, 'status']);
    assert.equal(exitCode, before.exitCode, stdout);
    assert.match(stdout.replaceAll(/\s+/g, ' '), / config: a restore left \S+\.tars-prev-1a2b3c4d /);
    const lines = stdout.split('\n').flatMap((line) => /remove it: (.*)$/.exec(line)?.[1] ?? []);
    assert.equal(lines.length, 2, stdout);
    for (const line of lines) await execa('/bin/sh', ['-euc', line]);
    const { leftovers } = JSON.parse((await tars([...config, 'status', '--json'])).stdout) as Record<
      string,
      unknown
    >;
    assert.deepEqual(leftovers, []);
  } finally {
    await rm(left, { force: true });
  }
});

test('what tars says of a bad night fits in 80 columns', async () => {
  const config = await stack.changed({ stack: 'wide', schedule: { ...schedule, check: '0 5 1 * *' } });
  const log = runLogOf(await loadSettings(config[1], {}));
  const path = '/mnt/backup/tars/data/4f/4f1c8b0a7d2e6f5b3c9a8e7d6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a';
  const day = (date: number): Date => new Date(2026, 0, date, 2, 30);
  const run = (verb: 'backup' | 'check', date: number, end: RunEnd): void => {
    const options = verb === 'check' ? ['readData'] : [];
    log.begin({ verb, options }, day(date)).finish(end, new Date(day(date).getTime() + 754_000));
  };
  run('check', 1, { exitCode: 0, outcome: 'ok' });
  run('backup', 2, {
    ...{ exitCode: 0, outcome: 'ok', snapshot: 'ab'.repeat(32) },
    ...{ capturedBytes: 123_456_789_012, addedBytes: 1_234_567_890 },
    retention: {
      heldBack: ['postgres holds 14 rows in 3 tables, where the newest that goes holds 120345 rows in 41'],
      ...{ command: 'tars forget --allow-shrunk', letGo: [] },
      ahead: [{ id: 'cd'.repeat(32), time: new Date(2099, 0, 1) }],
      failure: 'There is no repository at /mnt/backup/tars: it is gone, or its disk is not mounted',
    },
  });
  const message =
    'postgres: Cannot connect to 127.0.0.1:5432 as tars: the server answers that it is starting up, for a minute now\n' +
    `Cannot write ${path}: no space is left on the disk that holds the repository, and nothing was removed`;
  run('backup', 3, { exitCode: 1, outcome: 'failed', error: { code: 'storage-full', message } });
  run('check', 4, { exitCode: 1, outcome: 'failed', error: { code: 'corruption', message: `Pack ${path}` } });
  const { stdout } = await tars([...config, 'status']);
  assert.match(stdout, /^wide: failing$/m);
  const long = stdout.split('\n').filter((line) => line.length > 80 && line.trim().includes(' '));
  assert.deepEqual(long, []);
  assert.match(stdout, /^ {16}\S.* added, took 12 min 34 s$/m, 'what does not fit goes on below');
  assert.match(stdout.replaceAll(/\s+/g, ' '), /the server answers that it is starting up, for a minute now/);
});
