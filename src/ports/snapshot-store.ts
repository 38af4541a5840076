import type { Finding } from '../model/finding.ts';
import type { Manifest } from '../model/manifest.ts';
import type { PublishedSnapshot, SnapshotSummary } from '../model/snapshot.ts';
import type { ArtifactSink, ArtifactSource } from './artifacts.ts';
import type { OperationContext } from './context.ts';
import type { KeyRing } from './keys.ts';
import type { Prunable } from './prune.ts';
import type { SnapshotShelf } from './snapshot-shelf.ts';

/** What a snapshot is published as. */
export interface SnapshotLabel {
  readonly stack: string;
  readonly hostname: string;
  readonly username: string;
}

/** A snapshot under construction. Disposing without {@link publish} leaves nothing that anybody would see. */
export interface SnapshotWriter extends ArtifactSink, AsyncDisposable {
  /** Writes the manifest, then publishes everything atomically. Called once, last. */
  publish(manifest: Manifest, ctx: OperationContext): Promise<PublishedSnapshot>;
}

/** Something snapshots can be written to. */
export interface SnapshotDestination {
  readonly location: string;
  begin(label: SnapshotLabel, ctx: OperationContext): Promise<SnapshotWriter>;
}

/** An opened snapshot. */
export interface SnapshotSource extends ArtifactSource, AsyncDisposable {
  readonly summary: SnapshotSummary;
  /** @throws TarsError `artifact-not-found` when it was not written by tars */
  manifest(signal: AbortSignal): Promise<Manifest>;
}

/** What a check looked at, and what it found wrong: no findings, no damage. */
export interface CheckReport {
  readonly findings: readonly Finding[];
  readonly snapshots: number;
  readonly packs: number;
  readonly blobs: number;
  /** Bytes of packs read and verified; 0 without `readData`. */
  readonly readBytes: number;
}

/** A lock in the repository. */
export interface LockHolder {
  /** Such as `PID 4711 on box (user root, refreshed 12 s ago)`. */
  readonly who: string;
  /** Nobody else may use the repository meanwhile. */
  readonly exclusive: boolean;
  /**
   * `gone`: its process has ended, and the next run removes it. `stale`: not refreshed for long, or not to be found;
   * `tars unlock` removes it. `unreadable`: it keeps everybody out until `tars unlock --all`.
   */
  readonly state: 'live' | 'stale' | 'gone' | 'unreadable';
}

/** Packs that no new snapshot relies on, by id. */
export interface PackHealth {
  /** Indexed and not there. */
  readonly missing: readonly string[];
  /** Of another size than their entries in the index make. */
  readonly misfit: readonly string[];
  /** Found damaged by a check. */
  readonly damaged: readonly string[];
}

/** An opened repository. */
export interface SnapshotStore
  extends SnapshotDestination, SnapshotShelf, Prunable, KeyRing, AsyncDisposable {
  readonly id: string;
  /** Of restic's repository format. */
  readonly formatVersion: number;
  /**
   * @param reference an id, a unique prefix of one, or `latest` (of `stack` when given)
   * @throws TarsError `snapshot-not-found`
   */
  open(reference: string, stack: string | undefined, ctx: OperationContext): Promise<SnapshotSource>;
  /** {@link open} without a lock, for a moment's look: what it reads may be pruned meanwhile. */
  peek(reference: string, stack: string | undefined, ctx: OperationContext): Promise<SnapshotSource>;
  /** Who holds a lock at this moment. */
  holders(ctx: OperationContext): Promise<readonly LockHolder[]>;
  /** Holds what the index promises against what is there. Reads no pack. @throws CorruptionError */
  examinePacks(ctx: OperationContext): Promise<PackHealth>;
  /** Damaged packs are recorded in the repository, so that no backup relies on them any more. */
  check(options: { readonly readData: boolean }, ctx: OperationContext): Promise<CheckReport>;
  /** Removes locks whose holders are dead or stale (all of them with `all`). Returns how many went. */
  unlock(options: { readonly all: boolean }, ctx: OperationContext): Promise<number>;
}
