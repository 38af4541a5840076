import { counted } from '../../model/plural.ts';
import type { PruneOutcome } from '../../operations/retention/prune.ts';
import { formatBytes } from './units.ts';

/** What a prune did, or would do, in a line or two. */
export function renderPrune({ plan, done }: PruneOutcome): string {
  const { packs, repackBytes, totalBytes, remainingUnusedBytes } = plan;
  const freedBytes = done?.freedBytes ?? plan.freedBytes;
  const goneCount = packs.remove + packs.unindexed;
  const left =
    remainingUnusedBytes === 0
      ? 'no unused data remains'
      : `${formatBytes(remainingUnusedBytes)} of unused data remain`;
  if (goneCount + packs.repack === 0 && freedBytes <= 0)
    return `Nothing to remove: ${formatBytes(totalBytes)} in all, ${left}`;
  const rewritten =
    packs.repack === 0 ? '' : `, ${counted(packs.repack, 'pack')} rewritten (${formatBytes(repackBytes)})`;
  return [
    `${done === undefined ? 'Would free' : 'Freed'} ${formatBytes(Math.max(0, freedBytes))} of ${formatBytes(totalBytes)}; ${left}`,
    `${counted(goneCount, 'pack')} removed${rewritten}`,
  ].join('\n');
}
