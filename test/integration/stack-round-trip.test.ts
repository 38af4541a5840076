import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runDemo } from '../../src/demo/run.ts';
import { counted } from '../fixtures/campaign.ts';
import { tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';

const rounds = counted(1, 10);
/** Chroma writes 1,000 of them into its index and keeps the rest in its log; the campaign loads the whole novel. */
const passagesMax = counted(1200, 1e6);

for (let round = 1; round <= rounds; round++) {
  test(`a whole stack under write load comes back equal (${round} of ${rounds})`, async (t) => {
    const { kept, ...report } = await runDemo({ keep: true, passagesMax }, testContext());
    assert.ok(kept);
    t.after(() => rm(kept, { recursive: true, force: true }));
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
    for (const { name, pointInTime } of report.first.manifest.components)
      assert.equal(pointInTime, 'cut', name);
    assert.ok(
      report.second.snapshot.addedBytes < report.second.snapshot.processedBytes / 4,
      'the second run must deduplicate',
    );
    await lookAround(join(kept, 'tars.yaml'));
  });
}

/** What `tars demo --keep` proposes works without the servers, which are stopped; what it says needs them does. */
async function lookAround(settingsPath: string): Promise<void> {
  for (const verb of ['show', 'snapshots', 'check']) {
    const { exitCode, stderr } = await tars(['--config', settingsPath, verb]);
    assert.equal(exitCode, 0, `${verb}: ${stderr}`);
  }
  assert.equal((await tars(['--config', settingsPath, 'verify'])).exitCode, 1);
}
