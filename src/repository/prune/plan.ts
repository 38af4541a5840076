import { CorruptionError } from '../../model/errors.ts';
import type { PruneLimits, PruneReport } from '../../ports/prune.ts';
import type { DamagedPacks } from './damage.ts';
import type { PackContent } from './usage.ts';

/**
 * Which packs stay, go, or are repacked. The rules are restic's (`internal/repository/prune.go`), so that either tool
 * leaves as much as the other would.
 */

/** From here on a pack is no small one, whatever the others are. restic's smallest pack size. */
const smallPackBytes = 4 << 20;
/** Packs that are much smaller than nearly all others are small, too. */
const smallPackPercentile = 3;
const largeEnoughShare = 0.8;
/** Fewer small packs are not worth the trouble, and a single one would be repacked for ever. */
const smallPacksMin = 10;

/** What a prune looks at. */
export interface RepositoryContent {
  /** Those that are indexed. */
  readonly packs: ReadonlyMap<string, PackContent>;
  /** The pack files that are there, with their sizes. */
  readonly files: ReadonlyMap<string, number>;
  /** By ordinal: 1 for blobs that a snapshot needs. */
  readonly used: Uint8Array;
  /** Packs that are there and not whole. */
  readonly damaged: DamagedPacks;
  readonly snapshots: number;
}

/** Ids of packs by what becomes of them; all others stay. */
export interface PackDecisions {
  /** Nothing in them is needed. */
  readonly remove: ReadonlySet<string>;
  /** What is needed of them goes to new packs. */
  readonly repack: ReadonlySet<string>;
  /** Indexed, but neither there nor needed. */
  readonly vanished: ReadonlySet<string>;
  /** In no index. */
  readonly unindexed: ReadonlySet<string>;
  readonly report: PruneReport;
}

/** A pack that is there, its blobs counted. */
interface PackUse {
  readonly pack: PackContent;
  readonly headerBytes: number;
  usedBlobs: number;
  unusedBlobs: number;
  /** Of the unused: snapshots need them, and there are others of them. */
  duplicateBlobs: number;
  usedBytes: number;
  unusedBytes: number;
}

/** @throws CorruptionError when something that is needed lies in no pack whole */
export function decidePacks(content: RepositoryContent, limits: PruneLimits): PackDecisions {
  const there = [...content.packs.values()].filter(({ id }) => content.files.has(id));
  const vanished = [...content.packs.values()].filter(({ id }) => !content.files.has(id));
  const present = there.filter(({ id }) => !content.damaged.has(id));
  const copies = countCopies(present, content.used);
  const salvaged = salvage(
    there.filter(({ id }) => content.damaged.has(id)),
    content,
    copies,
  );
  requireNothingOf(vanished, content.used, salvaged.found, 'is missing');
  const sound = present.map((pack) => countUse(pack, copies));
  for (const use of sound) claimDuplicates(use, copies);

  const uses = [...sound, ...salvaged.uses];
  const remove = uses.filter(({ usedBlobs }) => usedBlobs === 0);
  const repack = chooseRepacked(uses, content.damaged, limits);
  const unindexed = [...content.files.keys()].filter((id) => !content.packs.has(id));
  return {
    remove: idsOf(remove),
    repack: idsOf(repack),
    vanished: new Set(vanished.map(({ id }) => id)),
    unindexed: new Set(unindexed),
    report: reportOf(content, uses, { remove, repack, unindexed }),
  };
}

/** For a repository without a snapshot: nothing is changed. */
export function keepAll({ packs, files }: RepositoryContent): PackDecisions {
  const totalBytes = sum([...files.values()], (sizeBytes) => sizeBytes);
  const none = new Set<string>();
  return {
    ...{ remove: none, repack: none, vanished: none, unindexed: none },
    report: {
      snapshots: 0,
      packs: { keep: packs.size, repack: 0, remove: 0, unindexed: 0 },
      ...{ totalBytes, unusedBytes: 0, repackBytes: 0, freedBytes: 0, remainingUnusedBytes: 0 },
    },
  };
}

const idsOf = (uses: readonly PackUse[]): ReadonlySet<string> => new Set(uses.map(({ pack }) => pack.id));

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

const blobsMany = 254;
/** Instead of a count: all copies but this one were left to others. */
const lastCopy = 255;

/** By ordinal: how many copies there are of each blob that is used. What there are very many of is only not exact. */
function countCopies(packs: readonly PackContent[], used: Uint8Array): Uint8Array {
  const copies = new Uint8Array(used.length);
  for (const pack of packs) {
    for (const [ordinal] of blobsOf(pack)) {
      if (used[ordinal] === 1) copies[ordinal] = Math.min(blobsMany, (copies[ordinal] ?? 0) + 1);
    }
  }
  return copies;
}

function countUse(pack: PackContent, copies: Uint8Array): PackUse {
  const counts = { usedBlobs: 0, unusedBlobs: 0, duplicateBlobs: 0, usedBytes: 0, unusedBytes: 0 };
  for (const [ordinal, lengthBytes] of blobsOf(pack)) {
    if (copies[ordinal] === 1) {
      counts.usedBlobs += 1;
      counts.usedBytes += lengthBytes;
    } else {
      counts.unusedBlobs += 1;
      counts.unusedBytes += lengthBytes;
      if (copies[ordinal] !== 0) counts.duplicateBlobs += 1;
    }
  }
  return { pack, headerBytes: pack.sizeBytes - counts.usedBytes - counts.unusedBytes, ...counts };
}

/**
 * Decides for each duplicate in the pack whether this is the copy that counts: beside other used blobs, in a pack of
 * nothing but duplicates (an interrupted prune leaves those), or when it is the last.
 */
function claimDuplicates(use: PackUse, copies: Uint8Array): void {
  if (use.duplicateBlobs === 0) return;
  for (const [ordinal, lengthBytes] of blobsOf(use.pack)) {
    const count = copies[ordinal] ?? 0;
    if (count < 2) continue;
    if (use.usedBlobs > 0 || use.duplicateBlobs === use.unusedBlobs || count === lastCopy) {
      use.usedBlobs += 1;
      use.usedBytes += lengthBytes;
      use.unusedBlobs -= 1;
      use.unusedBytes -= lengthBytes;
      copies[ordinal] = 1;
    } else {
      copies[ordinal] = count === 2 ? lastCopy : count - 1;
    }
  }
}

function* blobsOf({ entries }: PackContent): Generator<readonly [ordinal: number, lengthBytes: number]> {
  for (let i = 0; i < entries.length; i += 2) yield [entries[i] ?? 0, entries[i + 1] ?? 0];
}

/** Of damaged packs only that is used which they hold whole, and no sound pack has. Each counts once. */
function salvage(
  packs: readonly PackContent[],
  { used, damaged }: RepositoryContent,
  copies: Uint8Array,
): { readonly uses: readonly PackUse[]; readonly found: Uint8Array } {
  const found = Uint8Array.from(copies);
  const uses = packs.map((pack): PackUse => {
    const counts = { usedBlobs: 0, unusedBlobs: 0, duplicateBlobs: 0, usedBytes: 0, unusedBytes: 0 };
    for (const [ordinal, lengthBytes] of blobsOf(pack)) {
      const isNeeded = used[ordinal] === 1 && found[ordinal] === 0 && !damaged.get(pack.id)?.has(ordinal);
      counts[isNeeded ? 'usedBlobs' : 'unusedBlobs'] += 1;
      counts[isNeeded ? 'usedBytes' : 'unusedBytes'] += lengthBytes;
      if (isNeeded) found[ordinal] = 1;
    }
    return { pack, headerBytes: pack.sizeBytes - counts.usedBytes - counts.unusedBytes, ...counts };
  });
  requireNothingOf(packs, used, found, 'is damaged');
  return { uses, found };
}

/** @param found by ordinal: not 0 for what lies whole anywhere */
function requireNothingOf(
  packs: readonly PackContent[],
  used: Uint8Array,
  found: Uint8Array,
  state: string,
): void {
  for (const pack of packs) {
    for (const [ordinal] of blobsOf(pack)) {
      if (used[ordinal] !== 1 || found[ordinal] !== 0) continue;
      throw new CorruptionError(`Pack ${pack.id} ${state}, and snapshots need data that only this pack had`);
    }
  }
}

/**
 * Damaged packs first, then those of trees, then small ones, then those with the largest share of waste; until enough is
 * gone.
 */
function chooseRepacked(
  uses: readonly PackUse[],
  damaged: DamagedPacks,
  limits: PruneLimits,
): readonly PackUse[] {
  const isDamaged = ({ pack }: PackUse): boolean => damaged.has(pack.id);
  const largeEnoughBytes = largeEnough(uses);
  const isSmall = ({ pack }: PackUse): boolean => pack.sizeBytes < largeEnoughBytes;
  const rank = (use: PackUse): number =>
    isDamaged(use) ? 0 : use.pack.type !== 'data' ? 1 : isSmall(use) ? 2 : 3;
  const candidates = findCandidates(uses, isSmall, isDamaged).sort(
    (a, b) => rank(a) - rank(b) || wasteOf(b) - wasteOf(a),
  );
  const toleratedBytes = limits.maxUnusedBytes(sum(uses, ({ usedBytes }) => usedBytes));
  let unusedBytes = sum(uses, (use) => (use.usedBlobs === 0 ? 0 : use.unusedBytes));
  let repackedBytes = 0;
  return candidates.filter((use) => {
    if (repackedBytes + use.pack.sizeBytes >= limits.maxRepackBytes) return false;
    const mayStay = use.pack.type === 'data' && !isSmall(use) && !isDamaged(use);
    if (mayStay && unusedBytes < toleratedBytes) return false;
    repackedBytes += use.pack.sizeBytes;
    unusedBytes -= use.unusedBytes;
    return true;
  });
}

function findCandidates(
  uses: readonly PackUse[],
  isSmall: (use: PackUse) => boolean,
  isDamaged: (use: PackUse) => boolean,
): PackUse[] {
  const needed = uses.filter(({ usedBlobs }) => usedBlobs > 0);
  // Blobs of both types in one pack are from before version 2 of the format.
  const isCandidate = (use: PackUse): boolean =>
    use.unusedBlobs > 0 || use.pack.type === 'mixed' || isDamaged(use);
  const small = needed.filter((use) => !isCandidate(use) && isSmall(use));
  return [...needed.filter(isCandidate), ...(small.length < smallPacksMin ? [] : small)];
}

function wasteOf({ unusedBytes, pack }: PackUse): number {
  return unusedBytes / pack.sizeBytes;
}

/** From which size on a pack is left as it is, unless enough of it is unused. */
function largeEnough(uses: readonly PackUse[]): number {
  const sizes = uses.map(({ pack }) => pack.sizeBytes).sort((a, b) => a - b);
  const typical = sizes[Math.floor((sizes.length * smallPackPercentile) / 100)] ?? 0;
  return Math.max(smallPackBytes, typical) * largeEnoughShare;
}

function reportOf(
  { files, snapshots }: RepositoryContent,
  uses: readonly PackUse[],
  chosen: {
    readonly remove: readonly PackUse[];
    readonly repack: readonly PackUse[];
    readonly unindexed: readonly string[];
  },
): PruneReport {
  const { remove, repack, unindexed } = chosen;
  const sizeOf = (id: string): number => files.get(id) ?? 0;
  const unused = (packs: readonly PackUse[]): number => sum(packs, ({ unusedBytes }) => unusedBytes);
  const unusedBytes = unused(uses);
  return {
    snapshots,
    packs: {
      keep: uses.length - remove.length - repack.length,
      repack: repack.length,
      remove: remove.length,
      unindexed: unindexed.length,
    },
    totalBytes: sum([...files.values()], (sizeBytes) => sizeBytes),
    unusedBytes,
    repackBytes: sum(repack, ({ pack }) => pack.sizeBytes),
    freedBytes: sum(remove, ({ pack }) => sizeOf(pack.id)) + unused(repack) + sum(unindexed, sizeOf),
    remainingUnusedBytes: unusedBytes - unused(remove) - unused(repack),
  };
}
