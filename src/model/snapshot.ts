/** One published snapshot as a listing shows it. */
export interface SnapshotSummary {
  /** 64 hex digits in a repository; the archive's base name for a portable archive. */
  readonly id: string;
  /** The moment of the cut. */
  readonly time: Date;
  /** The offset of the clock that wrote it, in minutes ahead of UTC. */
  readonly utcOffsetMinutes: number;
  readonly stack: string | undefined;
  readonly hostname: string;
  readonly tags: readonly string[];
  /** Absolute paths as the snapshot records them, such as `/tars/tars-home`. */
  readonly paths: readonly string[];
  /** What wrote it, such as `tars 0.1.0` or `restic 0.19.0`. */
  readonly program: string | undefined;
  /** Bytes that it added to the repository; absent if its writer did not record them. */
  readonly addedBytes?: number;
}

/** Whose snapshots: those of one stack on one host. A repository may hold those of several. */
export interface SnapshotOwner {
  readonly stack: string;
  readonly hostname: string;
}

/** True for a snapshot of that stack on that host. */
export const isOwnedBy = (
  snapshot: Pick<SnapshotSummary, 'stack' | 'hostname'>,
  { stack, hostname }: SnapshotOwner,
): boolean => snapshot.stack === stack && snapshot.hostname === hostname;

/** The tag of a snapshot that lacks places of its stack; see `missingFrom`. */
export const notWholeTag = 'not-whole';

/** A snapshot id shortened for people, as restic shows it. */
export function shortId(id: string): string {
  return /^[0-9a-f]{64}$/.test(id) ? id.slice(0, 8) : id;
}

/** What publishing a snapshot stored. */
export interface PublishedSnapshot {
  readonly summary: SnapshotSummary;
  /** Bytes of all artifacts before deduplication and compression. */
  readonly processedBytes: number;
  /** Bytes this snapshot added to the store. */
  readonly addedBytes: number;
  readonly newBlobs: number;
  readonly reusedBlobs: number;
}
