import { randomBytes } from 'node:crypto';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { composeStack, createStore, openStore, type Stack } from '../composition/index.ts';
import { TarsError } from '../model/errors.ts';
import { hasErrors, type Finding } from '../model/finding.ts';
import type { Manifest } from '../model/manifest.ts';
import { toolVersion } from '../model/version.ts';
import { backup, type BackupResult } from '../operations/backup/backup.ts';
import { planRestore } from '../operations/restore/plan.ts';
import { executeRestore, type RestoreResult } from '../operations/restore/restore.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotStore } from '../ports/snapshot-store.ts';
import { loadSettings } from '../composition/settings.ts';
import { loadPassages } from './corpus.ts';
import { loadStack } from './load.ts';
import { lastAcknowledged, observe, observeVisits, type Observation, type Visits } from './observe.ts';
import { startDemoStack, type DemoStack } from './stack.ts';

export interface DemoReport {
  readonly passages: number;
  readonly first: BackupResult;
  readonly second: BackupResult;
  readonly restore: RestoreResult;
  readonly repositoryFindings: readonly Finding[];
  readonly before: Observation;
  readonly after: Observation;
  /** Visits acknowledged before the cut of the restored snapshot. */
  readonly acknowledged: number;
  readonly visits: Visits;
  /** Each comparison as `subject: fact`, and whether it held. */
  readonly comparisons: readonly { readonly what: string; readonly holds: boolean }[];
  /** Where everything lies, when it was kept. */
  readonly kept: string | undefined;
}

export interface DemoOptions {
  /** Whether everything stays where it lies. */
  readonly keep: boolean;
  /** How many passages of the novel are loaded at most; default: all. */
  readonly passagesMax?: number;
}

/** Visits that must have been written before the backups begin, so that there is something in flight to lose. */
const visitsBeforeBackup = 50;

/**
 * The whole main job on a private stack: load, back up twice while an application writes, destroy everything,
 * restore, compare. Leaves nothing behind unless `keep`.
 */
export async function runDemo(options: DemoOptions, ctx: OperationContext): Promise<DemoReport> {
  const root = await mkdtemp(join(tmpdir(), 'tars-demo-'));
  try {
    const report = await demonstrate(root, options, ctx);
    return { ...report, kept: options.keep ? root : undefined };
  } finally {
    if (!options.keep) await rm(root, { recursive: true, force: true });
  }
}

async function demonstrate(
  root: string,
  { passagesMax }: DemoOptions,
  ctx: OperationContext,
): Promise<Omit<DemoReport, 'kept'>> {
  ctx.log.info('Starting a private PostgreSQL, Redis and Chroma');
  await using demo = await startDemoStack(root, ctx);
  const passages = (await loadPassages()).slice(0, passagesMax);
  ctx.log.info(`Loading ${passages.length} passages of Moby-Dick with embeddings into every store`);
  await loadStack(demo, passages);
  const before = await observe(demo);

  const settings = await loadSettings(demo.settingsPath, {});
  const key = randomBytes(32).toString('base64url');
  await writeFile(join(root, 'tars-recovery.key'), key, { mode: 0o600 });
  await createStore(demo.repositoryPath, key, ctx);
  const stack = await composeStack(settings, { includeModels: true });
  await using store = await openStore(settings, {}, ctx);

  const { first, second } = await backUpTwiceUnderLoad(demo, stack, store, ctx);
  const { findings: repositoryFindings } = await store.check({ readData: true }, ctx);

  ctx.log.info('Disaster: every store is stopped and its data deleted');
  await demo.destroy();
  await demo.replaceHardware();
  ctx.log.info('Restoring');
  const restore = await restoreStack(stack, store, second.snapshot.summary.id, ctx);
  const after = await observe(demo);
  const visits = await observeVisits(demo);
  const acknowledged = await lastAcknowledged(demo, second.manifest.time);
  const facts = {
    passages: passages.length,
    first,
    second,
    restore,
    repositoryFindings,
    before,
    after,
    acknowledged,
    visits,
  };
  return { ...facts, comparisons: compare(facts) };
}

async function backUpTwiceUnderLoad(
  demo: DemoStack,
  stack: Stack,
  store: SnapshotStore,
  ctx: OperationContext,
): Promise<{ first: BackupResult; second: BackupResult }> {
  const target = { ...stack, stack: stack.name, toolVersion, notCaptured: [] };
  await appendFile(demo.ledgerFile, '');
  await stack.runtime.start('backend', ctx);
  try {
    await waitForVisits(demo, visitsBeforeBackup, ctx);
    ctx.log.info('Backing up while the application keeps writing');
    const first = await backup(target, store, ctx);
    ctx.log.info('Backing up again');
    const second = await backup(target, store, ctx);
    for (const { manifest } of [first, second]) requireComplete(manifest);
    return { first, second };
  } finally {
    await stack.runtime.stop('backend', { ...ctx, signal: new AbortController().signal });
  }
}

function requireComplete({ components }: Manifest): void {
  for (const { name, error } of components) {
    if (error !== undefined)
      throw new TarsError('capture-failed', `${name} was not captured: ${error.message}`);
  }
}

async function waitForVisits(demo: DemoStack, count: number, ctx: OperationContext): Promise<void> {
  const deadlineMs = ctx.clock.monotonicMs() + 60_000;
  while ((await readFile(demo.ledgerFile, 'utf8')).split('\n').length <= count) {
    if (ctx.clock.monotonicMs() > deadlineMs) {
      const log = await readFile(join(demo.root, 'backend.log'), 'utf8').catch(() => '');
      throw new TarsError('timeout', `The demo's application wrote nothing: ${log.slice(-500)}`);
    }
    await ctx.clock.sleep(20, ctx.signal);
  }
}

async function restoreStack(
  stack: Stack,
  store: SnapshotStore,
  snapshot: string,
  ctx: OperationContext,
): Promise<RestoreResult> {
  const target = { ...stack, stack: stack.name };
  await using source = await store.open(snapshot, undefined, ctx);
  const restoreId = randomBytes(4).toString('hex');
  const plan = await planRestore(
    source,
    target,
    { only: undefined, skip: [], restoreConfig: true, startServices: true, restoreId },
    ctx,
  );
  return await executeRestore(
    plan,
    source,
    target,
    stack.journal,
    { discardPrevious: false, skipValidation: false },
    ctx,
  );
}

function compare(facts: Omit<DemoReport, 'comparisons' | 'kept'>): DemoReport['comparisons'] {
  const { before, after, visits, acknowledged, restore, repositoryFindings } = facts;
  const last = [visits.postgres, visits.redis, visits.chroma];
  const answers = sharedAnswers(before.answers, after.answers);
  return [
    {
      what: `PostgreSQL: ${after.analyticsRows} analytics rows, each the same`,
      holds: before.analyticsRows === after.analyticsRows && before.analyticsDigest === after.analyticsDigest,
    },
    {
      what: `Redis: ${after.cacheKeys} keys, same types, values and lifetimes`,
      holds: before.cacheKeys === after.cacheKeys && before.cacheDigest === after.cacheDigest,
    },
    {
      what: `Chroma: ${after.passages} records, same documents, metadata, embeddings`,
      holds: before.passages === after.passages && before.passagesDigest === after.passagesDigest,
    },
    {
      what: `Chroma: ${after.answers.length} questions, ${answers.shared} of ${answers.asked} nearest passages the same`,
      holds: answers.shared >= 0.9 * answers.asked,
    },
    { what: 'Ollama: every manifest and blob', holds: before.modelDigest === after.modelDigest },
    {
      what: 'Configuration: the true file, secrets included',
      holds: before.configDigest === after.configDigest,
    },
    {
      what: `Writes under way: all ${acknowledged} acknowledged visits everywhere, none torn`,
      holds: acknowledged > 0 && visits.gapless && visits.torn === 0 && last.every((n) => n >= acknowledged),
    },
    {
      what: `One cut: the last visits are ${last.join(', ')}`,
      holds:
        Math.max(...last) - Math.min(...last) <= 1 &&
        visits.postgres >= visits.redis &&
        visits.redis >= visits.chroma,
    },
    { what: "Verification: the stores' own, after the restore", holds: !hasErrors(restore.findings) },
    { what: 'Repository: every byte read and verified', holds: !hasErrors(repositoryFindings) },
  ];
}

/**
 * How many of the nearest passages are the same. The index is approximate and partly rebuilt at a server's start,
 * so now and then a far neighbour changes; the vectors themselves are compared one by one elsewhere.
 */
function sharedAnswers(
  before: Observation['answers'],
  after: Observation['answers'],
): { asked: number; shared: number } {
  const shared = before.map((answer, question) => {
    const ids = new Set(after[question]?.map(({ id }) => id));
    return answer.filter(({ id }) => ids.has(id)).length;
  });
  return { asked: before.flat().length, shared: shared.reduce((sum, count) => sum + count, 0) };
}
