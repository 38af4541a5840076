import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  calendarFields,
  formatSpan,
  isZeroSpan,
  parseSpan,
  subtractSpan,
  type OffsetAt,
} from './calendar.ts';
import { ConfigurationError } from './errors.ts';

const utc: OffsetAt = () => 0;
const at = (text: string): number => Date.parse(text);
const iso = (epochMs: number): string => new Date(epochMs).toISOString();

/** Central Europe in 2025: one hour ahead, two from 30 March to 26 October. */
const berlin: OffsetAt = (epochMs) =>
  epochMs >= at('2025-03-30T01:00Z') && epochMs < at('2025-10-26T01:00Z') ? 120 : 60;

test('durations are read as restic writes them', () => {
  assert.deepEqual(parseSpan('1y6m30d12h'), { years: 1, months: 6, days: 30, hours: 12 });
  assert.deepEqual(parseSpan('12h1y'), { years: 1, months: 0, days: 0, hours: 12 });
  assert.equal(formatSpan(parseSpan('2d')), '2d');
  assert.ok(isZeroSpan(parseSpan('0d0h')) && !isZeroSpan(parseSpan('1h')));
  for (const wrong of ['', '7', 'd', '7 d', '1w', '-1d', '1.5d', '1d2d']) {
    assert.throws(
      () => parseSpan(wrong),
      (error) => error instanceof ConfigurationError && error.message.startsWith(`"${wrong}" `),
    );
  }
  const spans = fc.record({ years: fc.nat(), months: fc.nat(), days: fc.nat(), hours: fc.nat() });
  fc.assert(
    fc.property(spans, (span) => {
      fc.pre(!isZeroSpan(span));
      assert.deepEqual({ ...parseSpan(formatSpan(span)) }, { ...span });
    }),
  );
});

test('spans are subtracted by the calendar', () => {
  const back = (from: string, span: string, zone = utc): string =>
    iso(subtractSpan(at(from), parseSpan(span), zone));
  assert.equal(back('2025-03-31T10:00Z', '1m'), '2025-03-03T10:00:00.000Z');
  assert.equal(back('2024-02-29T10:00Z', '1y'), '2023-03-01T10:00:00.000Z');
  assert.equal(back('2025-01-01T00:30Z', '1h'), '2024-12-31T23:30:00.000Z');
  // 24 hours are not a day when the clocks change.
  assert.equal(back('2025-03-30T10:00Z', '1d', berlin), '2025-03-29T11:00:00.000Z');
  assert.equal(back('2025-03-30T10:00Z', '24h', berlin), '2025-03-29T10:00:00.000Z');
  // 02:30 does not exist on 30 March and exists twice on 26 October: the moments that Go takes.
  assert.equal(back('2025-03-31T00:30Z', '1d', berlin), '2025-03-30T01:30:00.000Z');
  assert.equal(back('2025-10-27T01:30Z', '1d', berlin), '2025-10-26T01:30:00.000Z');
  assert.equal(subtractSpan(0, parseSpan('999999999y'), utc), Number.NEGATIVE_INFINITY);
});

test('weeks are those of ISO 8601', () => {
  const week = (text: string, offsetMinutes = 0): string => {
    const { isoYear, isoWeek } = calendarFields(at(text), offsetMinutes);
    return `${isoYear}-W${isoWeek}`;
  };
  assert.equal(week('2024-12-30T00:00Z'), '2025-W1');
  assert.equal(week('2024-12-29T23:59Z'), '2024-W52');
  assert.equal(week('2024-12-29T23:59Z', 1), '2025-W1');
  assert.equal(week('2021-01-03T12:00Z'), '2020-W53');
  assert.equal(week('0050-01-03T12:00Z'), '50-W1');
});

test('fields are those of the clock a time was written by', () => {
  const { year, month, day, hour } = calendarFields(at('2025-12-31T23:30Z'), 345);
  assert.deepEqual([year, month, day, hour], [2026, 1, 1, 5]);
  const times = fc.date({ min: new Date('0001-01-02'), max: new Date('9999-12-30'), noInvalidDate: true });
  fc.assert(
    fc.property(times, fc.integer({ min: -840, max: 840 }), (time, offset) => {
      const fields = calendarFields(time.getTime(), offset);
      const shifted = new Date(time.getTime() + offset * 60_000).toISOString();
      const digits = (value: number): string => String(value).padStart(2, '0');
      assert.ok(shifted.includes(`-${digits(fields.month)}-${digits(fields.day)}T${digits(fields.hour)}:`));
      assert.ok(fields.isoWeek >= 1 && fields.isoWeek <= 53);
      assert.ok(Math.abs(fields.isoYear - fields.year) <= 1);
    }),
  );
});
