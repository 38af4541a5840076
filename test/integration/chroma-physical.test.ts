import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createChromaComponent } from '../../src/components/chroma/index.ts';
import { chromaFactsOf, placedCollections } from '../../src/components/chroma/facts.ts';
import { startChroma, type PrivateChroma } from '../../src/demo/servers/chroma.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { Component, PreparedCapture } from '../../src/ports/component.ts';
import type { OperationContext } from '../../src/ports/context.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { ChromaLoad, differencesFromLedger, type Ledger } from '../fixtures/chroma-load.ts';
import { testContext } from '../fixtures/context.ts';

const captures = process.env['TARS_CAMPAIGN'] === 'full' ? 20 : 4;
const seed = Number(process.env['TARS_SEED'] ?? 20_241);

const componentAt = (server: Pick<PrivateChroma, 'url' | 'dataDir'>, scratchDir: string): Component =>
  createChromaComponent({
    name: 'chroma',
    service: 'chroma',
    url: server.url,
    headers: {},
    path: server.dataDir,
    scratchDir,
  });

/** Captures at a pause of the writers, as the cut does, and says what had been acknowledged by then. */
async function captureUnderLoad(
  prepared: PreparedCapture,
  load: ChromaLoad,
  target: string,
  ctx: OperationContext,
): Promise<{ readonly manifest: ComponentManifest; readonly ledger: Ledger }> {
  await load.pause();
  await prepared.mark(ctx.signal);
  const ledger = load.acknowledged();
  load.resume();
  await prepared.settle(ctx);
  const sink = createDirectorySink(target, { encrypted: true });
  const report = await prepared.capture(sink, ctx);
  const manifest: ComponentManifest = {
    name: 'chroma',
    kind: 'chroma',
    outcome: 'captured',
    pointInTime: prepared.pointInTime,
    method: report.method,
    writesBlockedMs: report.writesBlockedMs,
    facts: JSON.parse(JSON.stringify(report.facts)) as Record<string, unknown>,
    artifacts: [...sink.artifacts],
  };
  return { manifest, ledger };
}

async function restoreInto(
  server: PrivateChroma,
  component: Component,
  manifest: ComponentManifest,
  from: string,
  restoreId: string,
  ctx: OperationContext,
): Promise<void> {
  const planned = await component.planRestore(
    manifest,
    { restoreConfig: false, restoreId },
    ctx,
    noArtifacts,
  );
  assert.deepEqual(planned.plan.requires, { stopped: ['chroma'], running: [] });
  const staged = await planned.stage(createDirectorySource(from), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  await server.stop();
  await staged.swap(ctx);
  await server.start();
}

test(`captures under constant writes restore with every acknowledged record (seed ${seed})`, async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-chroma-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const ctx = testContext();
  await mkdir(join(root, 'live'));
  await mkdir(join(root, 'fresh'));
  await using live = await startChroma(join(root, 'live'), ctx);
  await using fresh = await startChroma(join(root, 'fresh'), ctx);
  const source = componentAt(live, join(root, 'scratch'));
  const target = componentAt(fresh, join(root, 'scratch'));
  const load = new ChromaLoad(live.url, seed);
  await load.seedCollections(1500);
  load.start();
  try {
    for (let i = 0; i < captures; i++) {
      const where = `seed ${seed}, capture ${i}`;
      const artifacts = join(root, `artifacts-${i}`);
      await using prepared = await source.prepare(ctx);
      const { manifest, ledger } = await captureUnderLoad(prepared, load, artifacts, ctx);
      assert.equal(manifest.pointInTime, 'cut', where);
      const counts = [...placedCollections(chromaFactsOf(manifest))].map(({ collection }) => [
        collection.name,
        collection.recordCount,
        collection.vectorCount,
      ]);
      assert.deepEqual(
        counts,
        [...ledger].map(([name, records]) => [name, records.size, records.size]).sort(),
        where,
      );
      await restoreInto(fresh, target, manifest, artifacts, `r${i}`, ctx);
      assert.deepEqual(await differencesFromLedger(fresh.url, ledger), [], where);
      assert.deepEqual(await target.verify(manifest, ctx, noArtifacts), [], where);
      t.diagnostic(`${where}: writes blocked for ${Math.round(manifest.writesBlockedMs ?? 0)} ms`);
    }
  } finally {
    await load.stop();
  }
});
