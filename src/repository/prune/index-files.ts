import { throwIfAborted } from '../../model/abort.ts';
import type { OperationContext } from '../../ports/context.ts';
import { loadIndexedPacks } from '../check/indexes.ts';
import type { IndexedPack } from '../format/index-file.ts';
import type { OpenedRepository } from '../open.ts';
import { blobsMax, type PendingIndex } from '../seal/pending-index.ts';

/**
 * Writes new index files for those of `names` that list a pack in `gone`, or a pack twice, or few blobs: without the
 * packs that are gone. Removes nothing.
 * @param pending writes them
 * @returns names of the index files that are needed no more, once this has resolved
 */
export async function rewriteIndexes(
  repo: OpenedRepository,
  names: readonly string[],
  gone: ReadonlySet<string>,
  pending: PendingIndex,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const listed = new Set<string>();
  const obsolete: string[] = [];
  for (const name of names) {
    throwIfAborted(ctx.signal);
    const packs = await loadIndexedPacks(repo, name, ctx.signal);
    const isGood = blobsIn(packs) >= blobsMax && !packs.some(({ id }) => gone.has(id) || listed.has(id));
    if (!isGood) obsolete.push(name);
    for (const pack of packs) {
      if (gone.has(pack.id) || listed.has(pack.id)) continue;
      listed.add(pack.id);
      // Nothing would have to be stored again if this run were interrupted.
      if (!isGood) await pending.add({ ...pack, lengthBytes: 0 }, ctx.signal);
    }
  }
  await pending.save(ctx.signal);
  return obsolete;
}

const blobsIn = (packs: readonly IndexedPack[]): number =>
  packs.reduce((total, { blobs }) => total + blobs.length, 0);
