import { throwIfAborted } from '../../model/abort.ts';
import { ConfigurationError, toTarsError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Prunable, PruneLimits, PruneReport, PruneResult } from '../../ports/prune.ts';

/** What a prune meant to do, and what it did; without `done` it was only looked at. */
export interface PruneOutcome {
  readonly plan: PruneReport;
  readonly done?: PruneResult;
}

/**
 * Removes what no snapshot needs, or with `dryRun` only finds out what that is.
 * @throws RepositoryLockedError when anybody else uses the repository
 * @throws CorruptionError when anything in it is not as it should be
 */
export async function pruneRepository(
  store: Prunable,
  limits: PruneLimits,
  options: { readonly dryRun: boolean },
  ctx: OperationContext,
): Promise<PruneOutcome> {
  await using plan = await store.planPrune(limits, ctx);
  if (options.dryRun) return { plan: plan.report };
  return { plan: plan.report, done: await plan.execute(ctx) };
}

/** What was forgotten is gone, whatever becomes of this; its result would not be heard. */
export async function pruneAfterForget(
  removed: number,
  store: Prunable,
  ctx: OperationContext,
): Promise<PruneOutcome> {
  try {
    return await pruneRepository(store, parsePruneLimits({}), { dryRun: false }, ctx);
  } catch (error) {
    if (removed > 0)
      ctx.log.warn(`${counted(removed, 'snapshot')} forgotten; the space is not free yet, as pruning failed`);
    throw error;
  }
}

/** What would go is looked away from; that it cannot be looked at now is no reason not to show the rest. */
export async function previewPruneAfter(
  going: readonly string[],
  store: Prunable,
  ctx: OperationContext,
): Promise<PruneOutcome | undefined> {
  try {
    return { plan: await store.previewPrune(parsePruneLimits({}), going, ctx) };
  } catch (error) {
    throwIfAborted(ctx.signal);
    ctx.log.warn(
      `It is unknown how much pruning would free: ${toTarsError(error, 'It cannot be inspected').message}`,
    );
    return undefined;
  }
}

/** How limits are given on the command line, as stock restic takes them. */
export interface PruneLimitTexts {
  /** `5%`, `200M` or `unlimited`. */
  readonly maxUnused?: string | undefined;
  /** `10G`. */
  readonly maxRepackSize?: string | undefined;
}

/** restic's; repacking everything for the last per cent costs more than it gains. */
export const defaultMaxUnused = '5%';

/** @throws ConfigurationError naming the value */
export function parsePruneLimits({ maxUnused, maxRepackSize }: PruneLimitTexts): PruneLimits {
  return {
    maxUnusedBytes: parseMaxUnused((maxUnused ?? defaultMaxUnused).trim()),
    maxRepackBytes:
      maxRepackSize === undefined
        ? Number.POSITIVE_INFINITY
        : parseBytes(maxRepackSize.trim(), '--max-repack-size'),
  };
}

function parseMaxUnused(text: string): PruneLimits['maxUnusedBytes'] {
  if (text === 'unlimited') return () => Number.POSITIVE_INFINITY;
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(text)?.[1];
  if (percent === undefined) {
    const limitBytes = parseBytes(text, '--max-unused');
    return () => limitBytes;
  }
  const share = Number(percent) / 100;
  if (share >= 1) throw unfit('--max-unused', text);
  // Of what is there afterwards, not of what is used.
  return (usedBytes) => (share / (1 - share)) * usedBytes;
}

const unitBytes: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

function parseBytes(text: string, flag: string): number {
  const [, digits, unit] = /^(\d+)([bkmgt]?)$/i.exec(text) ?? [];
  const bytes = Number(digits) * (unitBytes[(unit ?? '').toUpperCase()] ?? Number.NaN);
  if (!Number.isSafeInteger(bytes)) throw unfit(flag, text);
  return bytes;
}

function unfit(flag: string, text: string): ConfigurationError {
  const forms =
    flag === '--max-unused'
      ? 'a percentage below 100% such as 5%, a size such as 200M, or unlimited'
      : 'a size such as 500M or 10G, or 0';
  return new ConfigurationError(`${flag} cannot be "${text}"`, { hint: `Use ${forms}.` });
}
