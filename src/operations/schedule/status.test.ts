import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryRunLog, record, scheduled } from '../../../test/fixtures/schedule.ts';
import type { Schedule } from '../../model/schedule.ts';
import type { RunRecord } from '../../ports/run-log.ts';
import { statusOf, type StackStatus } from './status.ts';

const at = (day: number, hour: number, minute = 0): Date => new Date(2026, 10, day, hour, minute);
const nightly = scheduled({ backup: '30 2 * * *' }, 10);
const now = at(24, 12);

const judge = (records: RunRecord[], schedule: Schedule = nightly, time = now): StackStatus =>
  statusOf(schedule, memoryRunLog(records), time);
const failure = { code: 'no-space', message: 'Cannot write pack: no space left' };
const failed = (time: Date): RunRecord =>
  record(time, 'failed', { end: { exitCode: 1, outcome: 'failed', error: failure } });

test('fine: the last night went well, whatever was before', () => {
  const status = judge([failed(at(23, 2, 30)), record(at(24, 2, 35))]);
  assert.equal(status.verdict, 'fine');
  assert.deepEqual(status.reasons, []);
  assert.deepEqual(status.failures, []);
  assert.equal(status.ageMs, 9 * 3_600_000 + 25 * 60_000);
  assert.deepEqual(status.next, { backup: at(25, 2, 30) });
});

test('failing: the last night failed, was killed or locked out, and it says why and since when', () => {
  const status = judge([record(at(22, 2, 30)), failed(at(23, 2, 30)), failed(at(24, 2, 30))]);
  assert.equal(status.verdict, 'failing');
  assert.match(status.reasons.join(), /failed: Cannot write pack: no space left/);
  assert.deepEqual(
    status.failures.map(({ startedAt }) => startedAt),
    [at(24, 2, 30), at(23, 2, 30)],
  );
  assert.deepEqual(status.last.backup?.startedAt, at(22, 2, 30));
  const killed = judge([record(at(24, 2, 30)), record(at(24, 11), 'killed')]);
  assert.equal(killed.verdict, 'failing');
  assert.match(killed.reasons.join(), /was killed/);
  const locked = judge([record(at(24, 2, 30)), record(at(24, 11), 'locked')]);
  assert.equal(locked.verdict, 'failing');
  assert.match(locked.reasons.join(), /The last backup was locked out/);
  assert.equal(locked.failures.length, 1);
  const long = record(at(24, 2, 30), 'ok', { finishedAt: at(24, 11, 30) });
  assert.equal(judge([long, record(at(24, 11), 'locked')]).verdict, 'fine', 'another run went in its place');
  const running = [record(at(23, 2, 30)), record(at(24, 2, 30), 'running'), record(at(24, 3), 'locked')];
  assert.equal(judge(running).verdict, 'fine', 'another run is under way in its place');
  const check = judge([
    record(at(23, 5), 'ok', { verb: 'check', options: ['readData'] }),
    record(at(24, 2, 30)),
    record(at(24, 5), 'locked', { verb: 'check', options: ['readData'] }),
  ]);
  assert.deepEqual(check.reasons, ['The last check was locked out']);
});

test('failing: older than the schedule allows, beyond a grace, and not while a backup runs', () => {
  const records = [record(at(23, 2, 30))];
  assert.equal(judge(records, nightly, at(24, 4, 39)).verdict, 'fine', 'two hours and the delay');
  const late = judge(records, nightly, at(24, 4, 41));
  assert.equal(late.verdict, 'failing');
  assert.match(late.reasons.join(), /older than the schedule allows/);
  assert.equal(judge([...records, record(at(24, 2, 30), 'running')]).verdict, 'fine');
  assert.equal(judge(records, scheduled({})).verdict, 'fine', 'no schedule, no age to judge');
  assert.equal(judge([]).verdict, 'failing', 'no backup at all');
});

test('waiting: for the first backup, until a time of the schedule is missed', () => {
  const since = at(23, 18);
  const wait = (time: Date, records: RunRecord[] = []): StackStatus =>
    statusOf(nightly, memoryRunLog(records), time, since);
  const set = wait(at(23, 19));
  assert.equal(set.verdict, 'waiting');
  assert.deepEqual(set.reasons, ['No backup is recorded here yet: the first one is due at 2026-11-24 02:30']);
  assert.deepEqual(set.firstDue, at(24, 2, 30));
  const late = wait(at(24, 4, 39));
  assert.equal(late.verdict, 'waiting', 'two hours and the delay');
  assert.deepEqual(late.firstDue, at(24, 2, 30));
  const missed = wait(at(24, 4, 41));
  assert.equal(missed.verdict, 'failing');
  assert.deepEqual(missed.reasons, ['No backup is recorded here, though one was due at 2026-11-24 02:30']);
  assert.equal(missed.firstDue, undefined);
  const failure = wait(at(23, 19), [failed(at(23, 18, 30))]);
  assert.equal(failure.verdict, 'failing');
  assert.match(failure.reasons.join(), /failed: Cannot write pack/);
  assert.equal(wait(at(23, 19), [record(at(23, 18, 30), 'locked')]).verdict, 'failing');
});

test('waiting: the first backup is under way, unless it hangs', () => {
  const begun = record(at(24, 2, 30), 'running');
  const status = judge([begun]);
  assert.equal(status.verdict, 'waiting');
  assert.deepEqual(status.reasons, ['The first backup is running']);
  assert.equal(judge([begun], scheduled({})).verdict, 'waiting', 'by hand');
  assert.equal(judge([begun], nightly, at(25, 5)).verdict, 'failing');
  const again = judge([record(at(24, 1), 'killed'), begun]);
  assert.equal(again.verdict, 'failing', 'the one before says what may come');
});

test('failing: no backup, and none is scheduled', () => {
  const status = judge([], scheduled({ check: '0 5 1 * *' }));
  assert.equal(status.verdict, 'failing');
  assert.deepEqual(status.reasons, ['No backup is recorded here, and none is scheduled']);
});

test('failing: a backup that hangs is no excuse for the times that go by', () => {
  const good = record(at(20, 2, 30));
  const hangs = record(at(21, 2, 30), 'running');
  const status = judge([good, hangs]);
  assert.equal(status.verdict, 'failing');
  assert.match(status.reasons.join(), /older than the schedule allows/);
  assert.equal(judge([good, hangs], nightly, at(22, 4)).verdict, 'fine', 'one that takes a day');
});

test('failing: what the clock was wrong about when it ran is no backup of now', () => {
  const future = record(new Date(2099, 0, 1));
  const status = judge([record(at(20, 2, 30)), future]);
  assert.equal(status.verdict, 'failing');
  assert.deepEqual(status.last.backup?.startedAt, at(20, 2, 30));
  assert.equal(judge([record(new Date(now.getTime() + 60_000))]).verdict, 'fine', 'clocks are set a little');
});

test('failing: the last check found damage or failed, until one goes well', () => {
  const good = record(at(24, 2, 30));
  const damage = { code: 'corruption', message: 'Pack 12ab34cd: it is damaged' };
  const found = record(at(23, 5), 'failed', {
    ...{ verb: 'check', options: ['readData'] },
    end: { exitCode: 1, outcome: 'failed', error: damage },
  });
  const status = judge([found, good]);
  assert.equal(status.verdict, 'failing');
  assert.deepEqual(status.reasons, ['The last check failed: Pack 12ab34cd: it is damaged']);
  const later = record(at(23, 6), 'ok', { verb: 'check', options: ['readData'] });
  assert.equal(judge([found, later, good]).verdict, 'fine');
});

test('partial: the last backup was, and it is the last one that holds something', () => {
  const partial = record(at(24, 2, 30), 'partial');
  const status = judge([record(at(23, 2, 30)), partial]);
  assert.equal(status.verdict, 'partial');
  assert.deepEqual(status.last.backup?.startedAt, partial.startedAt);
  assert.equal(judge([record(at(22, 2, 30)), record(at(23, 2, 30), 'partial')]).verdict, 'failing');
});

test('an archive or a part is no backup of the stack; forgetting with --prune is a prune too', () => {
  const status = judge([
    record(at(22, 2, 30)),
    record(at(24, 2, 30), 'ok', { options: ['outputDir'] }),
    record(at(24, 3), 'ok', { verb: 'forget', options: ['prune', 'yes'] }),
    record(at(24, 5), 'ok', { verb: 'check', options: [] }),
  ]);
  assert.equal(status.verdict, 'failing');
  assert.deepEqual(status.last.backup?.startedAt, at(22, 2, 30));
  assert.deepEqual(status.last.prune?.startedAt, at(24, 3));
  assert.deepEqual(status.last.check?.startedAt, at(24, 5));
});
