import { throwIfAborted } from '../../model/abort.ts';
import { toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import { loadIndexedPacks } from '../check/indexes.ts';
import { planWindows, PackVerifier, type PackToVerify } from '../check/pack.ts';
import type { OpenedRepository } from '../open.ts';
import type { IndexedContent } from './usage.ts';

/** By the id of a pack that is there and is not what it should be: the ordinals of the blobs that it does not hold whole. */
export type DamagedPacks = ReadonlyMap<string, ReadonlySet<number>>;

/**
 * Reads the packs that a check found damaged, and those of a size that their entries do not make. One that turns out
 * to be sound is not returned.
 * @throws TarsError when one cannot be read, as by a disk that fails: nothing is known of it then
 */
export async function findDamagedPacks(
  repo: OpenedRepository,
  content: IndexedContent,
  files: ReadonlyMap<string, number>,
  ctx: OperationContext,
): Promise<DamagedPacks> {
  const open = new Set(
    [...content.packs.values()]
      .filter(({ id, sizeBytes }) => {
        const found = files.get(id);
        return found !== undefined && (found !== sizeBytes || content.damaged.has(id));
      })
      .map(({ id }) => id),
  );
  const damaged = new Map<string, ReadonlySet<number>>();
  for (const name of content.names) {
    if (open.size === 0) break;
    for (const { id, blobs } of await loadIndexedPacks(repo, name, ctx.signal)) {
      if (!open.delete(id)) continue;
      const bad = await verify(repo, { id, blobs, sizeBytes: files.get(id) ?? 0, partial: false }, ctx);
      if (bad !== undefined) damaged.set(id, ordinalsOf(bad, content));
    }
  }
  return damaged;
}

/** @returns the blobs it does not hold whole; undefined when the pack is sound */
async function verify(
  repo: OpenedRepository,
  pack: PackToVerify,
  { signal }: OperationContext,
): Promise<ReturnType<PackVerifier['finish']>['damaged'] | undefined> {
  const verifier = new PackVerifier(pack, repo.crypto);
  for (const window of planWindows(pack)) {
    throwIfAborted(signal);
    try {
      verifier.feed(window, await repo.storage.load({ type: 'data', name: pack.id }, window, signal));
    } catch (error) {
      throw toTarsError(error, `Cannot read pack ${pack.id}`);
    }
  }
  const { problems, damaged } = verifier.finish();
  return problems.length === 0 ? undefined : damaged;
}

function ordinalsOf(
  blobs: ReturnType<PackVerifier['finish']>['damaged'],
  { index }: IndexedContent,
): ReadonlySet<number> {
  return new Set(blobs.map(({ id, type }) => index.ordinal(Buffer.from(id, 'hex'), type) ?? -1));
}
