import type { OperationContext } from './context.ts';

/** How far a prune goes. */
export interface PruneLimits {
  /** How many bytes may stay unused in packs that are otherwise used, given how many are used. */
  readonly maxUnusedBytes: (usedBytes: number) => number;
  /** Packs of fewer bytes in all are repacked; Infinity for no limit, 0 for none. */
  readonly maxRepackBytes: number;
}

/** What a prune means to do. */
export interface PruneReport {
  readonly snapshots: number;
  readonly packs: {
    readonly keep: number;
    readonly repack: number;
    readonly remove: number;
    /** Left over by interrupted runs; removed. */
    readonly unindexed: number;
  };
  /** Of all pack files. */
  readonly totalBytes: number;
  /** Of blobs no snapshot needs, and of second copies. */
  readonly unusedBytes: number;
  /** Of the packs that are repacked. */
  readonly repackBytes: number;
  readonly freedBytes: number;
  readonly remainingUnusedBytes: number;
}

/** What a prune did. */
export interface PruneResult {
  readonly removedPacks: number;
  readonly removedBytes: number;
  /** Of the packs that repacking made. */
  readonly writtenBytes: number;
  readonly freedBytes: number;
}

/** A plan to remove what no snapshot needs. The repository stays locked until it is disposed. */
export interface PrunePlan extends AsyncDisposable {
  readonly report: PruneReport;
  /**
   * Carries the plan out, once. Interrupted anywhere nothing is lost, and the next prune removes what is left over.
   * @throws CorruptionError when a blob that must be moved is damaged; nothing that snapshots need was deleted then
   */
  execute(ctx: OperationContext): Promise<PruneResult>;
}

/** A repository whose unneeded data can be removed. */
export interface Prunable {
  /**
   * @throws RepositoryLockedError when anybody else uses the repository
   * @throws CorruptionError when anything in it is not as it should be
   */
  planPrune(limits: PruneLimits, ctx: OperationContext): Promise<PrunePlan>;
  /** What a prune would do once the snapshots `without` are gone. Nothing can be carried out of it. Throws likewise. */
  previewPrune(limits: PruneLimits, without: readonly string[], ctx: OperationContext): Promise<PruneReport>;
}
