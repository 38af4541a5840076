import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decideForget, newestComplete } from './forgetting.ts';
import type { RetentionRules } from './retention.ts';
import type { SnapshotSummary } from './snapshot.ts';

const options = { now: new Date('2026-01-01T00:00Z'), offsetAt: () => 0, allowLast: false };

const snapshot = (day: number, ...tags: string[]): SnapshotSummary => ({
  id: String(day),
  time: new Date(Date.UTC(2025, 0, day)),
  utcOffsetMinutes: 0,
  stack: 'home',
  hostname: 'box',
  tags: ['tars', ...tags],
  paths: ['/tars/home'],
  program: undefined,
});

const keptDays = (
  snapshots: readonly SnapshotSummary[],
  rules: Partial<RetentionRules>,
  allowLast = false,
): number[] =>
  decideForget(snapshots, { tags: [], ...rules }, { ...options, allowLast })
    .filter(({ keep }) => keep)
    .map((decision) => Number(decision.snapshot.id));

test('the newest complete snapshot stays unless that is allowed', () => {
  const snapshots = [snapshot(1, 'good'), snapshot(2), snapshot(3), snapshot(4, 'partial')];
  assert.deepEqual(keptDays(snapshots, { tags: [['good']] }), [4, 3, 1]);
  assert.deepEqual(keptDays(snapshots, { tags: [['good']] }, true), [4, 1]);
  const [partial, newest] = decideForget(snapshots, { tags: [['good']] }, options);
  assert.deepEqual(partial?.reasons, ['partial, and no newer one is complete']);
  assert.deepEqual(newest?.reasons, ['newest complete snapshot']);
});

test('one by a clock that was ahead takes the place of none of now', () => {
  const future = { ...snapshot(9), id: '9', time: new Date('2099-01-01T00:00Z') };
  const failing = [snapshot(1), snapshot(2), snapshot(3, 'partial'), future];
  assert.deepEqual(keptDays(failing, { last: 1 }), [9, 3, 2]);
  assert.deepEqual(keptDays(failing, { last: 2 }), [9, 3, 2]);
  assert.deepEqual(keptDays([...failing, snapshot(4)], { last: 1 }), [9, 4]);
  assert.deepEqual(keptDays([...failing, snapshot(4)], { last: 1 }, true), [9, 3]);
  assert.deepEqual(keptDays([future], { tags: [['good']] }), [9], 'the only one');
});

test('partial snapshots are not counted, and go once a newer complete one stays', () => {
  const failing = [snapshot(1), snapshot(2), snapshot(3, 'partial'), snapshot(4, 'partial')];
  assert.deepEqual(keptDays(failing, { last: 2 }), [4, 3, 2, 1]);
  assert.deepEqual(keptDays([...failing, snapshot(5)], { last: 2 }), [5, 2]);
  assert.deepEqual(
    keptDays([snapshot(3, 'partial', 'good'), snapshot(5)], { last: 1, tags: [['good']] }),
    [5, 3],
  );
  // Newer is what stays: one that goes does not take the partial one along.
  assert.deepEqual(keptDays([snapshot(2, 'partial'), snapshot(5)], { tags: [['good']] }, true), [2]);
  assert.equal(newestComplete([snapshot(3, 'partial')]), undefined);
});

test('whatever the rules, there is something to restore from', () => {
  const histories = fc.uniqueArray(
    fc.record({ day: fc.integer({ min: 1, max: 400 }), tag: fc.constantFrom('partial', 'x', 'y') }),
    { selector: ({ day }) => day, maxLength: 30 },
  );
  const rules = fc.record({
    last: fc.nat({ max: 3 }),
    weekly: fc.nat({ max: 3 }),
    tags: fc.constant([['x']]),
  });
  fc.assert(
    fc.property(histories, rules, (history, ruleset) => {
      const snapshots = history.map(({ day, tag }) => snapshot(day, tag));
      const decisions = decideForget(snapshots, ruleset, options);
      assert.equal(decisions.length, snapshots.length);
      assert.ok(decisions.every(({ reasons }) => reasons.length > 0));
      // Some days are days to come.
      const newest = newestComplete(snapshots);
      const newestByNow = newestComplete(snapshots.filter(({ time }) => time <= options.now));
      for (const { snapshot: decided, keep } of decisions) {
        if (decided === newest || decided === newestByNow) assert.ok(keep);
        const isPartial = decided.tags.includes('partial');
        if (isPartial) assert.equal(keep, newestByNow === undefined || newestByNow.time < decided.time);
      }
    }),
  );
});
