import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SnapshotSummary } from '../../model/snapshot.ts';
import type { RetentionOutcome } from '../../ports/run-log.ts';
import type { StackForgetPlan } from './forget.ts';
import { outcomeOfFailure, outcomeOfNamed, outcomeOfPlan } from './note.ts';

const time = new Date('2135-01-01T00:00:00Z');
const plan: StackForgetPlan = {
  ...{ stack: 'home', hostname: 'box', decisions: [], heldBack: ['rows are gone'], letGo: ['redis'] },
  ahead: [{ id: 'abc', time } as SnapshotSummary],
};
const last: RetentionOutcome = {
  ...{ heldBack: ['it shrank'], letGo: ['postgres'], ahead: [] },
  command: 'tars forget --keep-last 3 --allow-shrunk',
};
const command = (): string => 'tars forget --allow-shrunk';

test('what the operator let go is recorded again by every run that looks at retention', () => {
  const ahead = [{ id: 'abc', time }];
  assert.deepEqual(outcomeOfPlan(plan, command), {
    ...{ heldBack: ['rows are gone'], command: command(), letGo: ['redis'], ahead },
  });
  assert.deepEqual(outcomeOfNamed(plan, last), { ...last, ahead }, 'ids say nothing of the rules');
  assert.equal(outcomeOfNamed(plan, undefined), undefined);
  assert.deepEqual(outcomeOfFailure('locked', last, command), { ...last, failure: 'locked' });
  assert.deepEqual(outcomeOfFailure('locked', undefined, command), {
    ...{ heldBack: [], command: command(), letGo: [], ahead: [], failure: 'locked' },
  });
});
