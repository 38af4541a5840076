import assert from 'node:assert/strict';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { isCampaign } from '../fixtures/campaign.ts';
import {
  otherThan,
  startRestoreStack,
  tarsWithFault,
  type RestoreStack,
  type Side,
} from '../fixtures/restore-stack.ts';

let stack: RestoreStack;
let live: Side = 'b';
/** What one whole restore did, step by step. */
let steps: readonly string[];

const restoreArgs = (side: Side): string[] => [
  '--config',
  stack.demo.settingsPath,
  'restore',
  stack.snapshots[side],
  '--yes',
  '--restore-config',
];

before(async () => {
  stack = await startRestoreStack();
  const trace = join(stack.demo.root, 'trace');
  const run = await tarsWithFault(restoreArgs('a'), { trace });
  assert.equal(run.exitCode, 0, run.stderr);
  steps = (await readFile(trace, 'utf8')).trim().split('\n');
  await rm(trace);
  live = (await stack.liveSide('a whole restore')).side;
  assert.equal(live, 'a');
});
after(() => stack[Symbol.asyncDispose]());

/** The number of the step that matches, the `nth` of them counted from 1, from the end when negative. */
function stepOf(pattern: RegExp, nth = 1): number {
  const found = steps.flatMap((step, i) => (pattern.test(step) ? [i + 1] : []));
  const step = found.at(nth > 0 ? nth - 1 : nth);
  assert.ok(step !== undefined, `no step ${pattern.source} in\n${steps.join('\n')}`);
  return step;
}

const journalled = /^rename restore-/;

/** The points of `npm test`: staging, one swap halfway, and all swapped before the journal says so. */
const chosenPoints = (): number[] => [
  stepOf(/^spawn pg_restore/),
  stepOf(/^rename data.tars-new/),
  stepOf(journalled, -2),
];

const everyPoint = (): number[] => steps.map((_, i) => i + 1);

/** After whatever happened: one generation whole, the services running, nothing staged, the journal clean. */
async function settled(where: string): Promise<{ side: Side; said: string }> {
  const outcome = await stack.liveSide(where);
  assert.deepEqual(await stack.down(), [], where);
  assert.deepEqual((await stack.leftovers()).staged, [], where);
  assert.deepEqual(await stack.pending(), [], where);
  return outcome;
}

const outcomes = {
  untouched:
    /was interrupted \(phase: staging\).*No live data had changed, and the services that it had stopped run again/s,
  undone:
    /was interrupted \(phase: swapping\).*The previous data is back in place, and the services that it had stopped run again/s,
  finished: /was interrupted \(phase: swapped\).*All restored data is in place and its services run/s,
};

test('kill -9 at any point of a restore leaves one generation whole, and the next run says which', async (t) => {
  const [firstNote, , swapping, swapped, done] = steps.flatMap((step, i) =>
    journalled.test(step) ? [i + 1] : [],
  );
  assert.ok(firstNote !== undefined && swapping !== undefined && swapped !== undefined && done !== undefined);
  for (const at of isCampaign ? everyPoint() : chosenPoints()) {
    await t.test(`before step ${at}: ${steps[at - 1] ?? ''}`, async () => {
      const where = `killed before step ${at} (${steps[at - 1] ?? ''}) on the way to ${otherThan(live)}`;
      const aside = (await stack.leftovers()).previous;
      const run = await tarsWithFault(restoreArgs(otherThan(live)), { at });
      assert.equal(run.signal, 'SIGKILL', `${run.stderr}; ${where}`);
      const { side, said } = await settled(where);
      const arrived = at > swapped;
      assert.equal(side, arrived ? otherThan(live) : live, where);
      if (!arrived) assert.deepEqual((await stack.leftovers()).previous, aside, where);
      const expected = at > swapping ? (arrived ? outcomes.finished : outcomes.undone) : outcomes.untouched;
      if (at > firstNote && at <= done) assert.match(said, expected, where);
      else assert.doesNotMatch(said, /was interrupted/, where);
      live = side;
    });
  }
});

/** Errors while staging, while the stores are exchanged, at their start and while the restored data is compared. */
const failures = [
  [/^spawn pg_restore/, 1, /I\/O error|EIO/i],
  [/^rename data.tars-new/, 1, /the previous data was put back/],
  [/^spawn redis-server/, 1, /the previous data was put back/],
  [/^open dump\.rdb/, -1, /I\/O error|EIO/i],
] as const;

// The second and the last leave different things behind.
for (const [pattern, nth, message] of failures.filter((_, i) => isCampaign || i % 2 === 1)) {
  test(`an error at ${pattern.source} blocks nothing: the next restore needs no work by hand`, async () => {
    const failed = await tarsWithFault(restoreArgs(otherThan(live)), {
      at: stepOf(pattern, nth),
      fails: true,
    });
    assert.equal(failed.exitCode, 1, failed.stderr);
    assert.match(failed.stderr, message);
    const next = await stack.run(['restore', stack.snapshots[otherThan(live)], '--yes', '--restore-config']);
    assert.equal(next.exitCode, 0, next.stderr);
    assert.doesNotMatch(next.stderr, /was interrupted|another process|tars verify,/);
    const { side, said } = await settled(pattern.source);
    assert.equal(side, otherThan(live));
    assert.doesNotMatch(said, /was interrupted/);
    live = side;
  });
}

/** Interruptions while staging, while the stores are down, and while the restored data is compared. */
const interruptions = [
  ['SIGINT', /^spawn pg_restore/, 1, /Interrupted; no live data had changed/],
  ['SIGTERM', /^rename data.tars-new/, 1, /Interrupted; the previous data was put back/],
  ['SIGINT', /^spawn redis-server/, 1, /Interrupted; the previous data was put back/],
  [
    'SIGTERM',
    // The first one is staged, the last one is what the live server is compared by.
    /^open dump\.rdb/,
    -1,
    /Interrupted; the restored data is in place, but the comparison did not finish/,
  ],
] as const;

// Of those, `npm test` tells the two apart that end differently.
const chosenInterruptions = interruptions.filter(([signal]) => isCampaign || signal === 'SIGTERM');
for (const [signal, pattern, nth, message] of chosenInterruptions) {
  test(`${signal} before ${pattern.source} ends with 130 and says how things stand`, async () => {
    const at = stepOf(pattern, nth);
    const run = await tarsWithFault(restoreArgs(otherThan(live)), { at, signal });
    assert.equal(run.exitCode, 130, run.stderr);
    assert.match(run.stderr, message);
    assert.deepEqual(await stack.pending(), []);
    assert.deepEqual(await stack.down(), []);
    const { side, said } = await settled(run.stderr);
    assert.doesNotMatch(said, /was interrupted/);
    assert.equal(side, /in place/.test(message.source) ? otherThan(live) : live);
    live = side;
  });
}
