import type { Manifest } from '../model/manifest.ts';
import type { SnapshotSummary } from '../model/snapshot.ts';
import type { OperationContext } from './context.ts';

/** Which snapshots go. */
export interface SnapshotRemoval {
  /** In the order in which they go. Those that are gone already are no error. */
  readonly remove: readonly string[];
  /** Those that are meant to stay, for whose sake the others may go. */
  readonly relyOn: readonly string[];
}

/** Where finished snapshots lie and go from: a repository, or a directory of portable archives. */
export interface SnapshotShelf {
  readonly location: string;
  /** Oldest first. */
  list(ctx: OperationContext): Promise<readonly SnapshotSummary[]>;
  /** The manifests of these snapshots, in the order of `ids`, one at a time. @throws TarsError when one cannot be read */
  readManifests(ids: readonly string[], ctx: OperationContext): AsyncIterable<Manifest>;
  /**
   * Removes snapshots one after the other; what they share with others stays. Whatever cuts it off, what is left are
   * whole snapshots.
   * @throws RepositoryLockedError while anybody else uses the repository
   * @throws TarsError `forget-refused` when one that was relied on is gone: nothing is removed then
   */
  removeSnapshots(removal: SnapshotRemoval, ctx: OperationContext): Promise<void>;
}
