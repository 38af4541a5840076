import assert from 'node:assert/strict';
import { chmod, chown, cp, mkdir, readdir, readFile, rename, rm, stat, truncate } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { chromaFactsOf } from '../../src/components/chroma/facts.ts';
import { createChromaComponent, type ChromaOptions } from '../../src/components/chroma/index.ts';
import { RestoreRefusedError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { Component, Staged } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { loadedChroma, type LoadedChroma } from '../fixtures/chroma-directory.ts';
import { differencesFromLedger, type Ledger } from '../fixtures/chroma-load.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
let chroma: LoadedChroma;
let artifacts: string;
let manifest: ComponentManifest;
let captured: Ledger;
let restores = 0;

before(async () => {
  chroma = await loadedChroma(1100, 77);
  artifacts = join(chroma.root, 'artifacts');
  captured = chroma.load.acknowledged();
  manifest = await capture(componentWith({}), artifacts);
});
after(() => chroma[Symbol.asyncDispose]());

function componentWith(change: Partial<ChromaOptions>): Component {
  return createChromaComponent({
    name: 'chroma',
    service: 'chroma',
    url: chroma.server.url,
    headers: {},
    path: chroma.server.dataDir,
    scratchDir: join(chroma.root, 'scratch'),
    ...change,
  });
}

async function capture(component: Component, target: string): Promise<ComponentManifest> {
  await using prepared = await component.prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  const sink = createDirectorySink(target, { encrypted: true });
  const report = await prepared.capture(sink, ctx);
  return {
    name: 'chroma',
    kind: 'chroma',
    outcome: 'captured',
    facts: JSON.parse(JSON.stringify(report.facts)) as Record<string, unknown>,
    artifacts: [...sink.artifacts],
  };
}

async function stageOn(component: Component, from = artifacts): Promise<Staged> {
  const options = { restoreConfig: false, restoreId: `r${++restores}` };
  const planned = await component.planRestore(manifest, options, ctx, noArtifacts);
  return planned.stage(createDirectorySource(from), ctx);
}

const besideLive = async (): Promise<string[]> =>
  (await readdir(dirname(chroma.server.dataDir))).filter((name) => name.includes('.tars-'));

test('a restore swaps the whole directory, keeps owner and mode, and can be undone or made final', async () => {
  const component = componentWith({});
  const { dataDir } = chroma.server;
  await chmod(dataDir, 0o750);
  if (process.getuid?.() === 0) await chown(dataDir, 12_345, 12_346);
  const owner = await stat(dataDir);
  for (let i = 0; i < 20; i++) await chroma.load.anyOperation();
  const later = chroma.load.acknowledged();
  assert.notDeepEqual(await differencesFromLedger(chroma.server.url, captured), []);

  const staged = await stageOn(component);
  assert.deepEqual(await staged.verify(ctx), []);
  await chroma.server.stop();
  await staged.swap(ctx);
  await staged.swap(ctx);
  await staged.discard(ctx);
  const restored = await stat(dataDir);
  assert.deepEqual([restored.mode, restored.uid, restored.gid], [owner.mode, owner.uid, owner.gid]);
  assert.equal((await stat(join(dataDir, 'chroma.sqlite3'))).uid, owner.uid);
  await chroma.server.start();
  assert.deepEqual(await differencesFromLedger(chroma.server.url, captured), []);
  assert.deepEqual(await component.verify(manifest, ctx, noArtifacts), []);

  await chroma.server.stop();
  const generation = component.generation(staged.record);
  await generation.undo(ctx);
  await generation.undo(ctx);
  await chroma.server.start();
  assert.deepEqual(await differencesFromLedger(chroma.server.url, later), []);
  assert.ok((await component.verify(manifest, ctx, noArtifacts)).length > 0);
  assert.deepEqual(await besideLive(), []);

  const again = await stageOn(component);
  await chroma.server.stop();
  await again.swap(ctx);
  await chroma.server.start();
  assert.equal((await besideLive()).length, 1);
  await component.generation(again.record).discardPrevious(ctx);
  assert.deepEqual(await besideLive(), []);
  assert.deepEqual(await component.verify(manifest, ctx, noArtifacts), []);
});

test('a swap that was killed between its two renames is undone or finished by another process', async () => {
  const component = componentWith({});
  for (const ending of ['undo', 'finish'] as const) {
    const staged = await stageOn(component);
    const record = JSON.parse(JSON.stringify(staged.record)) as typeof staged.record;
    await chroma.server.stop();
    const { stage } = record.details as { stage: { previousDir: string } };
    await rename(chroma.server.dataDir, stage.previousDir);
    if (ending === 'undo') await component.generation(record).undo(ctx);
    else await staged.swap(ctx);
    await chroma.server.start();
    assert.deepEqual(await differencesFromLedger(chroma.server.url, captured), [], ending);
    await component.generation(record).discardPrevious(ctx);
    assert.deepEqual(await besideLive(), [], ending);
  }
});

test('the swap refuses while a process still has the live file open', async () => {
  const staged = await stageOn(componentWith({}));
  const pid = await chroma.server.pid();
  assert.ok(pid !== undefined);
  await assert.rejects(
    staged.swap(ctx),
    (error) => error instanceof RestoreRefusedError && error.message.includes(String(pid)),
  );
  await staged.discard(ctx);
  assert.deepEqual(await besideLive(), []);
  assert.deepEqual(await differencesFromLedger(chroma.server.url, captured), []);
});

test('the swap brings everything back into a directory that was lost', async () => {
  const component = componentWith({});
  await chroma.server.stop();
  await rm(chroma.server.dataDir, { recursive: true });
  const options = { restoreConfig: false, restoreId: 'lost' };
  const planned = await component.planRestore(manifest, options, ctx, noArtifacts);
  assert.deepEqual(planned.plan.warnings, [], 'a restore from nothing is no reason to warn');
  assert.match(planned.plan.steps.join(), /which is empty; the server there must not be older/);
  const staged = await planned.stage(createDirectorySource(artifacts), ctx);
  await staged.swap(ctx);
  await chroma.server.start();
  assert.deepEqual(await differencesFromLedger(chroma.server.url, captured), []);
});

test('without a url the live data is verified through a safe copy', async () => {
  const offline = componentWith({ url: undefined });
  assert.deepEqual(await offline.verify(manifest, ctx, noArtifacts), []);
  await chroma.load.writeOnce();
  const codes = (await offline.verify(manifest, ctx, noArtifacts)).map(({ code }) => code);
  assert.deepEqual(codes, ['record-count-differs', 'content-differs', 'vectors-missing']);
});

test('a damaged artifact is found before the swap', async () => {
  const damaged = join(chroma.root, 'damaged');
  await cp(artifacts, damaged, { recursive: true });
  const index = (await readdir(join(damaged, 'chroma/persist'))).find((name) => name !== 'chroma.sqlite3')!;
  await truncate(join(damaged, 'chroma/persist', index, 'data_level0.bin'), 5000);
  const staged = await stageOn(componentWith({}), damaged);
  const codes = (await staged.verify(ctx)).map(({ code }) => code);
  assert.ok(codes.includes('vector-index-damaged'), codes.join());
  await staged.discard(ctx);
  assert.deepEqual(await besideLive(), []);
});

test('a snapshot of a newer Chroma is refused before anything is touched', async () => {
  const facts = chromaFactsOf(manifest);
  const migrations = facts.migrations!.map(({ dir, version }) => ({
    dir,
    version: dir === 'metadb' ? version + 1 : version,
  }));
  const newer: ComponentManifest = { ...manifest, facts: { ...facts, migrations } };
  await assert.rejects(
    componentWith({}).planRestore(newer, { restoreConfig: false, restoreId: 'x' }, ctx, noArtifacts),
    (error) =>
      error instanceof RestoreRefusedError && /newer Chroma .* metadb 6 \(here 5\)/.test(error.message),
  );
  await assert.rejects(
    componentWith({ path: undefined }).planRestore(
      manifest,
      { restoreConfig: false, restoreId: 'x' },
      ctx,
      noArtifacts,
    ),
    (error) => error instanceof RestoreRefusedError && /persist directory is not known/.test(error.message),
  );
  assert.deepEqual(await besideLive(), []);
});

test('a staging that is interrupted leaves nothing', async () => {
  const component = componentWith({});
  const options = { restoreConfig: false, restoreId: 'aborted' };
  const planned = await component.planRestore(manifest, options, ctx, noArtifacts);
  const source = createDirectorySource(artifacts);
  const controller = new AbortController();
  let opened = 0;
  const interrupting: typeof source = {
    entries: (prefix, signal) => source.entries(prefix, signal),
    open: (path, signal) => {
      if (++opened === 3) controller.abort();
      return source.open(path, signal);
    },
  };
  await assert.rejects(planned.stage(interrupting, { ...ctx, signal: controller.signal }));
  assert.deepEqual(await besideLive(), []);
});

test('every artifact is a byte-exact file of the directory, under its own name', async () => {
  await mkdir(join(chroma.server.dataDir, 'extra'));
  const target = join(chroma.root, 'renamed');
  const component = componentWith({});
  const { artifacts: written } = await capture(component, target);
  for (const { path, sizeBytes } of written) {
    const live = await readFile(join(chroma.server.dataDir, path.replace('chroma/persist/', '')));
    assert.equal(live.length, sizeBytes, path);
    assert.deepEqual(await readFile(join(target, path)), live, path);
  }
  assert.ok((await stat(join(target, 'chroma/persist/extra'))).isDirectory());
  await rm(join(chroma.server.dataDir, 'extra'), { recursive: true });
});
