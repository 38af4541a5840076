import assert from 'node:assert/strict';
import { access, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { RestoreRefusedError } from '../../model/errors.ts';
import type { RestoreJournalEntry } from '../../ports/journal.ts';
import { createFileJournal } from './file-journal.ts';

const record = (component: string, ...wayBack: string[]) => ({
  ...{ component, kind: 'fake', wayBack, details: {} },
});

const entry: RestoreJournalEntry = {
  restoreId: 'ab12cd34',
  stack: 'home',
  snapshot: 'f'.repeat(64),
  startedAt: '2026-11-24T03:00:00.000Z',
  components: ['postgres', 'redis'],
  phase: 'staging',
  stopped: [],
  offline: ['redis'],
  records: [record('postgres', 'psql -c one', 'psql -c two'), record('redis', 'mv a b')],
};

test('the way back is a private file, by component, from the moment all is swapped until it is no more', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tars-journal-'));
  try {
    const journal = createFileJournal(directory);
    const path = journal.wayBackFile(entry.restoreId);
    for (const phase of ['staging', 'swapping'] as const) {
      await journal.write({ ...entry, phase });
      await assert.rejects(access(path));
    }
    for (const phase of ['swapped', 'done'] as const) {
      await journal.write({ ...entry, phase });
      const text = await readFile(path, 'utf8');
      assert.match(text, /\n# postgres\npsql -c one\npsql -c two\n\n# redis\nmv a b\n$/);
      assert.match(text, /First stop these services.*: redis\./);
      assert.equal((await stat(path)).mode & 0o777, 0o600);
    }
    const byHand = { stop: ['docker stop app'], start: ['docker start app'] };
    await journal.write({ ...entry, phase: 'done', byHand });
    const around = await readFile(path, 'utf8');
    assert.match(around, /\ndocker stop app\n\n# postgres\n[\s\S]*\nmv a b\n\n# .*\ndocker start app\n$/);
    await journal.write({ ...entry, phase: 'done', records: [] });
    await assert.rejects(access(path), 'the previous data is about to be deleted');
    await journal.write({ ...entry, phase: 'swapped' });
    await journal.write({ ...entry, phase: 'staging' });
    await assert.rejects(access(path), 'the previous data is back');
    await journal.write({ ...entry, phase: 'swapped' });
    await journal.remove(entry.restoreId);
    await assert.rejects(access(path));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('what a kill -9 left of writing an entry goes when somebody claims the journal', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tars-journal-'));
  try {
    const journal = createFileJournal(directory);
    await journal.write(entry);
    await writeFile(join(directory, 'restore-zz99.json.tmp'), '{');
    await writeFile(join(directory, 'way-back-zz99.txt.tmp'), '#');
    await using _claim = await journal.claim();
    assert.deepEqual((await readdir(directory)).sort(), ['claim', 'restore-ab12cd34.json']);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('an entry is that of a running process until whoever wrote it lets go of the claim', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tars-journal-'));
  try {
    const journal = createFileJournal(directory);
    const pending = async () => (await createFileJournal(directory).pending()).map(({ alive }) => alive);
    {
      await using _claim = await journal.claim();
      await journal.write(entry);
      await journal.write({ ...entry, restoreId: 'ef56' });
      assert.deepEqual(await pending(), [true, true]);
      await assert.rejects(createFileJournal(directory).claim(), RestoreRefusedError);
      await journal.remove('ef56');
    }
    assert.deepEqual(await pending(), [false], 'its process lives on');
    assert.deepEqual((await journal.pending())[0]?.entry, entry);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
