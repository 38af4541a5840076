import { execa } from 'execa';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadPassages } from '../../src/demo/corpus.ts';
import { startTestStack } from '../fixtures/postgres-cluster.ts';
import { addModel, BulkText, loadBulk } from '../fixtures/bulk-stack.ts';
import { campaignSeed, counted, isCampaign } from '../fixtures/campaign.ts';
import { cliPath } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { peakMemoryVariable } from '../fixtures/peak-memory.ts';

/** Of a run's process, worker threads included. */
const peakMaxBytes = 400e6;
const mebibyte = 1 << 20;
/** In `npm test` the model alone would show what is held whole: its bytes cost least to make. */
const sizes = {
  postgresBytes: counted(16, 1600) * mebibyte,
  redisBytes: counted(4, 300) * mebibyte,
  chromaBytes: counted(2, 400) * mebibyte,
  chromaMs: counted(20_000, 180_000),
};
const modelBytes = counted(170, 1800) * mebibyte;

const hook = fileURLToPath(new URL('../fixtures/peak-memory.ts', import.meta.url));

/** Runs `tars ARGS` and returns the peak of its process. */
async function peakOf(args: readonly string[], root: string): Promise<number> {
  const peakFile = join(root, 'peak');
  await rm(peakFile, { force: true });
  const { exitCode, all } = await execa(process.execPath, ['--import', hook, cliPath, ...args], {
    reject: false,
    stdin: 'ignore',
    all: true,
    env: { TARS_CONFIG: undefined, TARS_PASSWORD: undefined, NO_COLOR: '1', [peakMemoryVariable]: peakFile },
  });
  assert.equal(exitCode, 0, all);
  const peakBytes = Number(await readFile(peakFile, 'utf8'));
  // Node alone has more than that: less, or nothing, was not measured.
  assert.ok(peakBytes > 30e6, `${peakBytes} bytes`);
  return peakBytes;
}

test(`memory stays below ${peakMaxBytes / 1e6} MB whatever the stores hold (seed ${campaignSeed})`, async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-memory-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  await using demo = await startTestStack(root, testContext());
  const content = await loadBulk(demo, new BulkText(await loadPassages(), campaignSeed), sizes);
  await addModel(demo.modelStore, 'bulk', modelBytes, campaignSeed);
  t.diagnostic(JSON.stringify({ ...content, modelBytes }));
  const config = ['--config', demo.settingsPath];
  await peakOf([...config, 'init'], root);

  const runs: readonly (readonly [string, readonly string[]])[] = [
    ['first backup', ['backup', '--include-models']],
    ['backup of unchanged stores', ['backup', '--include-models']],
    ['check --read-data', ['check', '--read-data']],
    ['restore', ['restore', '--yes']],
  ];
  const peaks = new Map<string, number>();
  for (const [what, args] of runs) {
    // Models that are there are not written again.
    if (what === 'restore') await rm(demo.modelStore, { recursive: true });
    const peak = await peakOf([...config, ...args], root);
    peaks.set(what, peak);
    t.diagnostic(`${what}: ${Math.round(peak / 1e6)} MB${isCampaign ? ', campaign' : ''}`);
  }
  for (const [what, peak] of peaks)
    assert.ok(peak < peakMaxBytes, `${what} had ${Math.round(peak / 1e6)} MB`);
});
