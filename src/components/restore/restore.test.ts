import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { RestorePlan } from '../../model/restore-plan.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { Component, Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { singleUse } from './single-use.ts';
import { swapDetails, swapMethod } from './swap-details.ts';
import { planWhereFound } from './where-found.ts';

const source = {} as ArtifactSource;
const manifest = {} as ComponentManifest;
const options = { restoreConfig: false, restoreId: 'r1' };
const planNamed = (component: string, warnings: readonly string[] = []): RestorePlan => ({
  ...{ component, kind: 'files', steps: [], warnings, artifacts: [], space: [] },
  requires: { stopped: [], running: [] },
});

/** What it logged goes to `lines`. */
const contextLogging = (lines: string[]): OperationContext =>
  ({ log: { info: (line: string) => lines.push(line), warn: (line: string) => lines.push(line) } }) as never;

test('a plan is staged once, also when that fails', async () => {
  const staged = {} as Staged;
  const ctx = contextLogging([]);
  const good = singleUse({ plan: planNamed('data'), details: 7 }, (details) => {
    assert.equal(details, 7);
    return Promise.resolve(staged);
  });
  assert.equal(await good.stage(source, ctx), staged);
  await assert.rejects(good.stage(source, ctx), /The plan to restore data was used before/);
  const bad = singleUse({ plan: planNamed('data'), details: 7 }, () => Promise.reject(new Error('no')));
  await assert.rejects(bad.stage(source, ctx), /^Error: no$/);
  await assert.rejects(bad.stage(source, ctx), { code: 'internal' });
});

test('a plan is staged where it was made, and made again where the component has moved to', async () => {
  const log: string[] = [];
  const ctx = contextLogging(log);
  const componentAt = (where: string): Component =>
    ({
      name: 'data',
      planRestore: () => {
        log.push(`plan at ${where}`);
        const stage = (): Promise<Staged> => {
          log.push(`stage at ${where}`);
          return Promise.resolve({} as Staged);
        };
        return Promise.resolve(
          singleUse({ plan: planNamed('data', [`warned at ${where}`]), details: 0 }, stage),
        );
      },
    }) as unknown as Component;
  let where = 'a';
  const plan = (): ReturnType<typeof planWhereFound> =>
    planWhereFound(
      () => Promise.resolve({ component: componentAt(where), where }),
      manifest,
      options,
      ctx,
      source,
    );
  await (await plan()).stage(source, ctx);
  assert.deepEqual(log.splice(0), ['plan at a', 'stage at a']);
  const moving = await plan();
  where = 'b';
  await moving.stage(source, ctx);
  assert.deepEqual(log.splice(0), [
    'plan at a',
    'data has moved since its restore was planned, so the restore is planned again',
    'plan at b',
    'warned at b',
    'stage at b',
  ]);
  await assert.rejects(moving.stage(source, ctx), /was used before/);
});

test('a record of a swap is read by its own kind alone', () => {
  const schema = z.object({ method: z.literal('volume'), restoreId: z.string() });
  const record = {
    component: 'data',
    kind: 'redis',
    wayBack: [],
    details: { method: 'volume', restoreId: 'r1' },
  };
  assert.deepEqual(swapDetails(record, 'redis', schema), record.details);
  assert.equal(swapMethod(record), 'volume');
  assert.equal(swapMethod({ ...record, details: { method: 7 } }), undefined);
  for (const [kind, details] of [
    ['ollama', record.details],
    ['redis', { method: 'other' }],
  ] as const) {
    assert.throws(
      () => swapDetails({ ...record, details }, kind, schema),
      (error: unknown) =>
        error instanceof CorruptionError &&
        error.hint !== undefined &&
        error.message.includes('restore of data'),
    );
  }
});
