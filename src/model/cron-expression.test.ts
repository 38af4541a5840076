import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { nextTime, parseCronExpression, previousTime, toOnCalendar } from './cron-expression.ts';

const at = (text: string): Date => new Date(text);
const local = (date: Date): string => {
  const two = (value: number): string => String(value).padStart(2, '0');
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  );
};

test('times are taken apart as crontab(5) says', () => {
  const { minute, hour, day, month, weekday } = parseCronExpression(' */20  0-6/3 * JAN-mar 5-7 ');
  assert.deepEqual(minute.values, [0, 20, 40]);
  assert.deepEqual(hour.values, [0, 3, 6]);
  assert.ok(day.any);
  assert.deepEqual(month.values, [1, 2, 3]);
  assert.deepEqual(weekday.values, [0, 5, 6], 'Sunday is 0 and 7');
  assert.deepEqual(parseCronExpression('0 0 31,1,15,1 * *').day.values, [1, 15, 31]);
});

test('what not every cron takes the same way is refused, the field named', () => {
  const cases: Record<string, RegExp> = {
    '30 2 * *': /five fields/,
    '@daily': /five fields/,
    '0 30 2 * * *': /five fields/,
    '60 * * * *': /^minute 60: 0 to 59$/,
    '0 24 * * *': /^hour 24: 0 to 23$/,
    '0 0 0 * *': /^day 0/,
    '0 0 * 13 *': /^month 13/,
    '0 0 * * 8': /^weekday 8/,
    '0 0 * * fri-mon': /^weekday fri-mon: the range is reversed$/,
    '5/15 * * * *': /^minute 5\/15: a step needs a range/,
    '*/0 * * * *': /^minute \*\/0/,
    '1,,2 * * * *': /^minute \(empty\)/,
    '0 0 L * *': /^day L/,
    '0 0 ? * *': /^day \?/,
    '0 0 * * mon#2': /^weekday mon#2/,
    '0 0 31 2,4 *': /does not exist/,
    '0 0 */2 * mon': /day \*\/2 beside weekday mon/,
    '0 0 1 * */2': /weekday \*\/2/,
  };
  for (const [expression, message] of Object.entries(cases)) {
    assert.throws(() => parseCronExpression(expression), { name: 'RangeError', message }, expression);
  }
});

test('the moment that has just begun is the previous one, and not the next', () => {
  const cron = parseCronExpression('30 2 * * *');
  const moment = new Date(2026, 10, 24, 2, 30);
  const later = (ms: number): Date => new Date(moment.getTime() + ms);
  assert.deepEqual(previousTime(cron, moment), moment);
  assert.deepEqual(previousTime(cron, later(999)), moment);
  assert.deepEqual(previousTime(cron, later(-1)), new Date(2026, 10, 23, 2, 30));
  assert.deepEqual(nextTime(cron, moment), new Date(2026, 10, 25, 2, 30));
  assert.deepEqual(nextTime(cron, later(-1)), moment);
});

test('a day beside a weekday is either of them, as cron has it', () => {
  const cron = parseCronExpression('0 0 13 * fri');
  assert.equal(local(nextTime(cron, new Date(2026, 10, 24))), '2026-11-27 00:00:00');
  assert.equal(local(nextTime(cron, new Date(2026, 11, 12))), '2026-12-13 00:00:00');
  assert.throws(() => toOnCalendar(cron), /"either" in a crontab and "both" in systemd/);
  assert.throws(
    () => toOnCalendar(parseCronExpression('0 0 1-31 * fri')),
    /either/,
    'every day, not every Friday',
  );
});

test('OnCalendar', () => {
  const cases: Record<string, string> = {
    '30 2 * * *': '*-*-* 02:30:00',
    '0 4 * * sun': 'Sun *-*-* 04:00:00',
    '*/30 0-6/3 1,15 * *': '*-*-01,15 00,03,06:00,30:00',
    '0 5 1 */6 *': '*-01,07-01 05:00:00',
    '* * * * 1-5': 'Mon,Tue,Wed,Thu,Fri *-*-* *:*:00',
  };
  for (const [expression, expected] of Object.entries(cases)) {
    assert.equal(toOnCalendar(parseCronExpression(expression)), expected);
  }
});

const field = (min: number, max: number): fc.Arbitrary<string> =>
  fc.oneof(
    fc.constant('*'),
    fc.integer({ min, max }).map(String),
    fc.integer({ min: 1, max: 7 }).map((step) => `*/${step}`),
    fc
      .tuple(fc.integer({ min, max }), fc.integer({ min, max }), fc.integer({ min: 1, max: 3 }))
      .map(([a, b, step]) => `${Math.min(a, b)}-${Math.max(a, b)}/${step}`),
    fc.array(fc.integer({ min, max }), { minLength: 1, maxLength: 4 }).map((values) => values.join(',')),
  );

const hasSystemd = existsSync('/usr/bin/systemd-analyze');
test('systemd means the same moments', { skip: hasSystemd ? false : 'no systemd-analyze here' }, () => {
  const expressions = fc.oneof(
    fc.tuple(field(0, 59), field(0, 23), field(1, 28), field(1, 12), fc.constant('*')),
    fc.tuple(field(0, 59), field(0, 23), fc.constant('*'), field(1, 12), field(0, 7)),
  );
  fc.assert(
    fc.property(expressions, (fields) => {
      const cron = parseCronExpression(fields.join(' '));
      const from = at('2026-11-24T12:34:00');
      const said = execFileSync(
        '/usr/bin/systemd-analyze',
        ['calendar', '--iterations=3', `--base-time=${local(from)}`, toOnCalendar(cron)],
        { encoding: 'utf8' },
      );
      const theirs = [...said.matchAll(/(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+)/g)].map(
        ([, time]) => time,
      );
      const ours: string[] = [];
      for (let time = from; ours.length < 3;) {
        time = nextTime(cron, time);
        ours.push(local(time));
      }
      assert.deepEqual(theirs, ours, cron.expression);
    }),
    { numRuns: 60, seed: 20261124 },
  );
});
