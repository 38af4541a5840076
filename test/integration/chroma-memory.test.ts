import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startChroma } from '../../src/demo/servers/chroma.ts';
import { counted, isCampaign } from '../fixtures/campaign.ts';
import { fillCollection } from '../fixtures/chroma-bulk.ts';
import { createCollection, defaultPath, RawChroma } from '../fixtures/chroma-http.ts';
import { testContext } from '../fixtures/context.ts';

const records = counted(30_000, 2_000_000);
const peakBytesMax = 300e6;
const child = new URL('../fixtures/chroma-inspecting-child.ts', import.meta.url).pathname;

test(`${records} records are inspected in bounded memory`, async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-chroma-memory-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const home = join(root, 'server');
  await mkdir(home);
  await using server = await startChroma(home, testContext());
  const raw = new RawChroma(server.url);
  const path = await createCollection(raw, defaultPath, '{"name":"bulk"}');
  await server.stop();
  fillCollection(server.dataDir, 'bulk', records);
  const { stdout } = await execa(process.execPath, ['--no-warnings', child, server.dataDir]);
  const seen = JSON.parse(stdout) as { records: number; problems: unknown[]; peakBytes: number };
  t.diagnostic(`peak ${Math.round(seen.peakBytes / 1e6)} MB for ${records} records`);
  assert.deepEqual(seen.problems, []);
  assert.equal(seen.records, records);
  assert.ok(seen.peakBytes < peakBytesMax, `peak of ${seen.peakBytes} bytes`);
  if (isCampaign) return;
  // That the files are as a server would have written them is what a server says.
  await server.start();
  assert.equal(await raw.text('GET', `${path}/count`), String(records));
  const answer = await raw.json<{ ids: string[][] }>('POST', `${path}/query`, {
    query_embeddings: [Array.from({ length: 8 }, () => 0.5)],
    n_results: 3,
  });
  assert.equal(answer.ids[0]!.length, 3);
});
