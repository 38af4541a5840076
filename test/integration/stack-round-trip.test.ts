import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runDemo } from '../../src/demo/run.ts';
import { counted } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';

const rounds = counted(1, 10);

for (let round = 1; round <= rounds; round++) {
  test(`a whole stack under write load comes back equal (${round} of ${rounds})`, async () => {
    const report = await runDemo({ keep: false }, testContext());
    assert.deepEqual(
      report.comparisons.filter(({ holds }) => !holds),
      [],
      JSON.stringify({
        visits: report.visits,
        acknowledged: report.acknowledged,
        findings: report.restore.findings,
      }),
    );
    assert.equal(report.first.manifest.outcome, 'complete');
    assert.equal(report.first.manifest.consistency, 'cut');
    assert.ok(
      report.second.snapshot.addedBytes < report.second.snapshot.processedBytes / 4,
      'the second run must deduplicate',
    );
  });
}
