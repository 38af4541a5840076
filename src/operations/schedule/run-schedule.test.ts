import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testContext } from '../../../test/fixtures/context.ts';
import { LeapingClock, memoryRunLog, record, scheduled } from '../../../test/fixtures/schedule.ts';
import type { Schedule, ScheduledTask } from '../../model/schedule.ts';
import type { RunLog, RunRecord } from '../../ports/run-log.ts';
import { dueTime } from './due-time.ts';
import { runDue, runSchedule } from './run-schedule.ts';

/** A moment of November 2026, local time; the 24th is a Tuesday. */
const at = (day: number, hour: number, minute = 0): Date => new Date(2026, 10, day, hour, minute);
const shown = (time: Date): string =>
  `${time.getDate()} ${time.getHours()}:${String(time.getMinutes()).padStart(2, '0')}`;

interface Night {
  readonly schedule: Schedule;
  readonly records?: RunRecord[];
  readonly from: Date;
  readonly until: Date;
  /** What a task does: its exit code, or undefined when it was killed. It takes an hour. */
  readonly outcome?: (task: ScheduledTask, count: number) => number | undefined;
  /** Tasks leave no record, as when the state directory cannot be written. */
  readonly unrecorded?: boolean;
  readonly load?: () => Promise<Schedule>;
  /** Whether the record of runs can be read at that time. */
  readonly isReadable?: (now: Date) => boolean;
}

/** Runs the daemon's loop over some days in no time. Returns what began when. */
async function live(night: Night): Promise<{ readonly begun: string[]; readonly said: string[] }> {
  const stop = new AbortController();
  const clock = new LeapingClock(night.from, night.until, stop);
  const runLog = memoryRunLog(night.records);
  const begun: string[] = [];
  const said: string[] = [];
  const say = (message: string): void => void said.push(message);
  let running = 0;
  const runTask = async (task: ScheduledTask): Promise<number | undefined> => {
    assert.equal((running += 1), 1, 'never two at once');
    const startedAt = clock.now();
    begun.push(`${shown(startedAt)} ${task}`);
    const exit = (night.outcome ?? (() => 0))(task, begun.length);
    await clock.sleep(3_600_000);
    const outcome = { 0: 'ok', 2: 'partial', 11: 'locked', 130: 'interrupted' }[exit ?? -1] ?? 'failed';
    const options = task === 'check' ? ['readData'] : [];
    if (night.unrecorded !== true) {
      runLog.records.push(
        record(startedAt, exit === undefined ? 'killed' : (outcome as 'ok'), { verb: task, options }),
      );
    }
    running -= 1;
    return exit;
  };
  const load = night.load ?? (() => Promise.resolve(night.schedule));
  const log = { debug: say, info: say, warn: say };
  const readable: RunLog = {
    ...runLog,
    runs: () => {
      if (night.isReadable?.(clock.now()) === false) throw new Error('EIO');
      return runLog.runs();
    },
  };
  await runSchedule({ load, runLog: readable, runTask }, { ...testContext(stop.signal), clock, log });
  return { begun, said };
}

const nightly = scheduled({ backup: '30 2 * * *', forget: '0 4 * * sun', check: '0 3 * * fri' });
const monday = record(at(23, 2, 30));

test('each task comes at its time, one at a time', async () => {
  const { begun } = await live({ schedule: nightly, records: [monday], from: at(23, 12), until: at(30, 0) });
  assert.deepEqual(begun, [
    ...['24 2:30 backup', '25 2:30 backup', '26 2:30 backup', '27 2:30 backup'],
    ...['27 3:30 check', '28 2:30 backup', '29 2:30 backup', '29 4:00 forget'],
  ]);
});

test('what was missed is caught up at once, once, in order; a check that never ran comes at its own time', async () => {
  const records = [
    record(at(9, 2, 30)),
    record(at(8, 4), 'ok', { verb: 'forget' }),
    record(at(6, 3), 'ok', { verb: 'check', options: ['readData'] }),
  ];
  const { begun } = await live({ schedule: nightly, records, from: at(23, 12), until: at(24, 12) });
  assert.deepEqual(begun, ['23 12:00 backup', '23 13:00 forget', '23 14:00 check', '24 2:30 backup']);
  const first = await live({ schedule: nightly, from: at(23, 12), until: at(24, 12) });
  assert.deepEqual(first.begun, ['23 12:00 backup', '24 2:30 backup'], 'nothing recorded yet');
});

test('a failed night does not stop the next one, and is not repeated', async () => {
  const outcome = (_task: string, count: number): number => (count === 1 ? 1 : 0);
  const nights = { schedule: nightly, from: at(23, 12), until: at(26, 12), outcome };
  const expected = ['24 2:30 backup', '25 2:30 backup', '26 2:30 backup'];
  assert.deepEqual((await live({ ...nights, records: [monday] })).begun, expected);
  const unrecorded = await live({ ...nights, records: [monday], unrecorded: true });
  assert.deepEqual(unrecorded.begun, expected, 'also when runs leave no record');
});

test('a run that was killed is tried again, not for ever; one that was locked out until it gets in', async () => {
  const nights = { schedule: nightly, from: at(23, 12), until: at(24, 12) };
  const killed = await live({ ...nights, records: [monday], outcome: () => undefined });
  assert.deepEqual(killed.begun, ['24 2:30 backup', '24 3:30 backup', '24 4:30 backup']);
  const locked = await live({
    ...nights,
    records: [monday],
    outcome: (_task, count) => (count < 6 ? 11 : 0),
  });
  assert.equal(locked.begun.length, 6);
});

test('a backup by hand after the time it was missed at is the one; one of a part, or into an archive, is not', async () => {
  const nights = { schedule: nightly, from: at(24, 12), until: at(24, 23) };
  const with_ = async (...records: RunRecord[]): Promise<string[]> =>
    (await live({ ...nights, records: [monday, ...records] })).begun;
  assert.deepEqual(await with_(record(at(24, 11))), []);
  assert.deepEqual(await with_(record(at(24, 11), 'running')), [], 'nor while it runs');
  assert.deepEqual(await with_(record(at(24, 11), 'ok', { options: ['only'] })), ['24 12:00 backup']);
  assert.deepEqual(await with_(record(at(24, 11), 'ok', { options: ['outputDir'] })), ['24 12:00 backup']);
});

test('a forget by hand of a snapshot that is named, or by other rules, is none that the schedule asked for', async () => {
  const night = { schedule: scheduled({ forget: '0 4 * * *' }), from: at(24, 12), until: at(24, 23) };
  const old = record(at(23, 4), 'ok', { verb: 'forget', options: ['prune', 'yes'] });
  const with_ = async (...options: string[]): Promise<string[]> =>
    (await live({ ...night, records: [old, record(at(24, 11), 'ok', { verb: 'forget', options })] })).begun;
  assert.deepEqual(await with_('yes', 'prune'), []);
  assert.deepEqual(await with_('snapshots', 'yes'), ['24 12:00 forget']);
  assert.deepEqual(await with_('keepLast', 'yes'), ['24 12:00 forget']);
});

test('a record that cannot be read any more is said once and costs no night', async () => {
  const nights = { schedule: nightly, records: [monday], from: at(23, 12), until: at(26, 12) };
  const broken = await live({ ...nights, isReadable: (now) => now < at(24, 1) || now > at(26, 1) });
  const expected = ['24 2:30 backup', '25 2:30 backup', '26 2:30 backup'];
  assert.deepEqual(broken.begun, expected);
  assert.equal(broken.said.filter((line) => line.includes('EIO')).length, 1);
  const never = await live({ ...nights, isReadable: () => false });
  assert.deepEqual(never.begun, ['23 12:00 backup', ...expected], 'what ran before is not known');
});

test('a run of a day that has not come yet, by a clock that was wrong, keeps no other from its time', async () => {
  const future = record(new Date(2099, 0, 1));
  const { begun } = await live({
    ...{ schedule: nightly, records: [monday, future], from: at(23, 12), until: at(24, 12) },
  });
  assert.deepEqual(begun, ['24 2:30 backup']);
});

test('a change of tars.yaml is taken up; one that cannot be read is said once and changes nothing', async () => {
  let reads = 0;
  const load = (): Promise<Schedule> => {
    reads += 1;
    if (reads < 3) return Promise.resolve(nightly);
    if (reads < 6) return Promise.reject(new Error('no YAML'));
    return Promise.resolve(scheduled({ backup: '0 13 * * *' }));
  };
  const { begun, said } = await live({
    ...{ schedule: nightly, records: [monday], load },
    ...{ from: at(23, 12), until: at(24, 12) },
  });
  assert.deepEqual(begun, ['23 13:00 backup']);
  assert.equal(said.filter((line) => line.includes('no YAML')).length, 1);
});

test('the delay of a time stays the same, is spread, and is below its most', () => {
  const delaysOf = (minutes: number): number[] =>
    Array.from({ length: 40 }, (_, hour) => {
      const schedule = scheduled({ backup: '0 * * * *' }, minutes);
      const now = new Date(at(24, 0, 30).getTime() + hour * 3_600_000);
      const due = dueTime('backup', schedule, [record(now)], now);
      assert.deepEqual(due, dueTime('backup', schedule, [record(now)], now));
      return (due?.getTime() ?? 0) - (now.getTime() + 30 * 60_000);
    });
  const delays = delaysOf(10);
  assert.ok(
    delays.every((ms) => ms >= 0 && ms < 600_000),
    String(delays),
  );
  assert.ok(new Set(delays).size > 30);
  assert.deepEqual(new Set(delaysOf(0)), new Set([0]));
});

/** One look at what is due, as a line of the crontab has it. Returns what began, and when it was claimed. */
async function look(
  schedule: Schedule,
  records: RunRecord[],
  from: Date,
  more: {
    readonly until?: Date;
    readonly isTaken?: boolean;
    readonly outcome?: (count: number) => number;
  } = {},
): Promise<{ readonly exitCode: number; readonly begun: string[]; readonly claimed: Date[] }> {
  const stop = new AbortController();
  const clock = new LeapingClock(from, more.until ?? at(30, 0), stop);
  const begun: string[] = [];
  const claimed: Date[] = [];
  const runner = {
    load: () => Promise.resolve(schedule),
    runLog: memoryRunLog(records),
    runTask: (task: ScheduledTask) => {
      begun.push(`${shown(clock.now())} ${task}`);
      return Promise.resolve(more.outcome?.(begun.length) ?? 0);
    },
    claim: () => {
      claimed.push(clock.now());
      return Promise.resolve(more.isTaken === true ? undefined : { [Symbol.dispose]: () => undefined });
    },
  };
  const exitCode = await runDue(runner, { ...testContext(stop.signal), clock });
  return { exitCode, begun, claimed };
}

test('running what is due ends when nothing is, with the first exit code that is not 0', async () => {
  const records = [record(at(9, 2, 30)), record(at(8, 4), 'ok', { verb: 'forget' })];
  const outcome = (count: number): number => (count === 1 ? 2 : 1);
  const { exitCode, begun } = await look(nightly, records, at(24, 12), { outcome });
  assert.equal(exitCode, 2);
  assert.deepEqual(begun, ['24 12:00 backup', '24 12:00 forget', '24 12:00 check']);
  const other = await look(nightly, records, at(24, 12), { isTaken: true });
  assert.deepEqual([other.exitCode, other.begun], [0, []], 'another process runs it');
});

test('a line of the crontab waits for the delay of its time before it claims anything', async () => {
  const late = scheduled({ backup: '30 2 * * *', check: '31 2 24 * *' }, 10);
  const due = dueTime('backup', late, [monday], at(24, 2, 30));
  assert.ok(due !== undefined && due > at(24, 2, 30));
  const waited = await look(late, [monday], at(24, 2, 30));
  assert.equal(waited.begun[0], `${shown(due)} backup`);
  assert.deepEqual(waited.claimed[0], due);
  const missed = await look(late, [monday, record(at(24, 2, 31), 'ok', { verb: 'check' })], at(24, 9, 17));
  assert.equal(missed.begun[0], '24 9:17 backup', 'what was missed is not delayed');
  const early = await look(late, [monday], at(24, 2, 29));
  assert.deepEqual([early.begun, early.claimed], [[], []], 'another line comes for what has not come yet');
  await assert.rejects(look(late, [monday], at(24, 2, 30), { until: at(24, 2, 30) }), {
    code: 'interrupted',
  });
});
