import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseSpan } from './calendar.ts';
import { applyRetention, isEmptyRules, type DatedSnapshot, type RetentionRules } from './retention.ts';

const surroundings = { now: new Date('2026-01-01T00:00Z'), offsetAt: () => 0 };

const snapshot = (text: string, tags: readonly string[] = [], utcOffsetMinutes = 0): DatedSnapshot => ({
  id: text,
  time: new Date(text),
  utcOffsetMinutes,
  tags,
});

const reasonsOf = (
  snapshots: readonly DatedSnapshot[],
  rules: Partial<RetentionRules>,
): Record<string, readonly string[]> =>
  Object.fromEntries(
    applyRetention(snapshots, { tags: [], ...rules }, surroundings).map((decision) => [
      decision.snapshot.id,
      decision.reasons,
    ]),
  );

test('each rule says which snapshot it keeps', () => {
  const snapshots = [
    snapshot('2025-11-24T10:10Z'),
    snapshot('2025-11-24T10:50Z', ['release', 'good']),
    snapshot('2025-11-25T09:00Z'),
    snapshot('2025-11-25T23:00Z'),
  ];
  assert.deepEqual(reasonsOf(snapshots, { last: 1, daily: 2, tags: [['release', 'good'], ['lost']] }), {
    '2025-11-25T23:00Z': ['last snapshot', 'daily snapshot'],
    '2025-11-25T09:00Z': [],
    '2025-11-24T10:50Z': ['has tags [release, good]', 'daily snapshot'],
    '2025-11-24T10:10Z': [],
  });
  assert.deepEqual(reasonsOf(snapshots, { weekly: 3, within: parseSpan('1d1h') })['2025-11-24T10:10Z'], [
    'oldest weekly snapshot',
  ]);
});

test('a day is one of the clock that a snapshot was written by', () => {
  const evening = [snapshot('2025-11-24T22:00Z', [], 60), snapshot('2025-11-24T23:30Z', [], 60)];
  assert.deepEqual(reasonsOf([...evening, snapshot('2025-11-20T00:00Z')], { daily: 2 }), {
    '2025-11-24T23:30Z': ['daily snapshot'],
    '2025-11-24T22:00Z': ['daily snapshot'],
    '2025-11-20T00:00Z': [],
  });
});

test('days are counted back by the zone of the machine where a snapshot was written in it', () => {
  // Central Europe: the clocks went ahead at 01:00 UTC on 30 March 2025.
  const offsetAt = (epochMs: number): number => (epochMs >= Date.parse('2025-03-30T01:00Z') ? 120 : 60);
  const kept = (newest: DatedSnapshot): boolean[] =>
    applyRetention(
      [newest, snapshot('2025-03-29T10:30Z', [], 60)],
      { within: parseSpan('1d'), tags: [] },
      { ...surroundings, offsetAt },
    ).map(({ keep }) => keep);
  // A day before noon is noon in the zone, 23 hours earlier, and 24 hours by any other clock.
  assert.deepEqual(kept(snapshot('2025-03-30T10:00Z', [], 120)), [true, false]);
  assert.deepEqual(kept(snapshot('2025-03-30T10:00Z', [], 60)), [true, true]);
  assert.deepEqual(kept(snapshot('2025-03-30T10:00Z')), [true, true]);
});

test('what lies in the future does not push the past out', () => {
  const ages = reasonsOf(
    [snapshot('2027-01-01T00:00Z'), snapshot('2025-12-31T00:00Z'), snapshot('2025-12-01T00:00Z')],
    { within: parseSpan('2d') },
  );
  assert.deepEqual(Object.values(ages), [['within 2d'], ['within 2d'], []]);
  const future = [snapshot('2027-01-01T00:00Z'), snapshot('2026-06-01T00:00Z')];
  assert.deepEqual(Object.values(reasonsOf(future, { within: parseSpan('2d') })), [
    ['within 2d'],
    ['within 2d'],
  ]);
});

test('rules that keep nothing are told apart', () => {
  assert.ok(isEmptyRules({ tags: [] }));
  assert.ok(isEmptyRules({ tags: [], daily: 0, within: parseSpan('0d') }));
  assert.ok(!isEmptyRules({ tags: [['a']] }));
  assert.ok(!isEmptyRules({ tags: [], within: parseSpan('1h') }));
  assert.ok(!isEmptyRules({ tags: [], yearly: 1 }));
});

const histories = fc
  .uniqueArray(fc.integer({ min: 0, max: 5000 }), { maxLength: 40 })
  .map((hours) => hours.map((hour) => snapshot(new Date(hour * 3_600_000).toISOString())));
const counts = fc.nat({ max: 8 });
const rulesets = fc.record({
  last: counts,
  hourly: counts,
  daily: counts,
  weekly: counts,
  monthly: counts,
  yearly: counts,
  within: fc.option(fc.constantFrom('5h', '3d', '1m').map(parseSpan), { nil: undefined }),
  tags: fc.constant([]),
});

test('for every history and all rules', () => {
  fc.assert(
    fc.property(histories, rulesets, (history, rules) => {
      const decisions = applyRetention(history, rules, surroundings);
      // Each snapshot is decided once, newest first.
      const times = decisions.map((decision) => decision.snapshot.time.getTime());
      assert.deepEqual(
        times,
        [...times].sort((a, b) => b - a),
      );
      assert.equal(decisions.length, history.length);
      // A rule keeps no more than its count, and the newest by any.
      for (const name of ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const) {
        const kept = decisions.filter(({ reasons }) => reasons.some((r) => r.endsWith(`${name} snapshot`)));
        assert.ok(kept.length <= rules[name]);
      }
      if (!isEmptyRules(rules) && decisions.length > 0) assert.ok(decisions[0]?.keep);
      // What was kept once is kept again when only that is left: forgetting twice is forgetting once.
      const kept = decisions.filter(({ keep }) => keep);
      const again = applyRetention(
        kept.map((decision) => decision.snapshot),
        rules,
        surroundings,
      );
      assert.ok(again.every(({ keep }) => keep));
    }),
  );
});
