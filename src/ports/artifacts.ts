import type { ManifestArtifact } from '../model/manifest.ts';

/** A body in pieces of any size, read once from the front. A reader that stops early closes it. */
export type Bytes = AsyncIterable<Uint8Array>;

/**
 * What the bytes are, so that the repository can cut them well (DESIGN.md section 6):
 * `stream` dumps and text whose content shifts (small content-defined chunks);
 * `pages` databases and vector files changed in place (fixed-size, aligned chunks);
 * `large` immutable models (8 MiB chunks, not worth compressing); `small` anything else.
 */
export type ChunkingHint = 'stream' | 'pages' | 'large' | 'small';

/** One extended attribute, such as `user.comment`, `system.posix_acl_access` or `security.capability`. */
export interface ExtendedAttribute {
  /** Bytes that are not UTF-8 stand as in model/byte-text.ts. */
  readonly name: string;
  readonly value: Uint8Array;
}

/** File attributes kept in the snapshot. */
export interface ArtifactAttributes {
  /** Permission bits including setuid, setgid and sticky, such as 0o600. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Nanoseconds since the Unix epoch; negative before 1970. */
  readonly mtimeNs: bigint;
  /** Sorted by the bytes of their names; absent where there are none, or nobody asked. */
  readonly extended?: readonly ExtendedAttribute[];
}

/** Identity of a source file, to recognise it unchanged without reading it. */
export interface FileIdentity {
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly inode: bigint;
  /** Device and number of names, for files that may have several (hard links). */
  readonly deviceId?: bigint;
  readonly links?: number;
}

/** What is neither file, directory nor symbolic link. */
export interface SpecialFile {
  readonly type: 'fifo' | 'socket' | 'character-device' | 'block-device';
  /** `st_rdev` of a device. */
  readonly device?: bigint;
}

/** What a sink is told of an artifact besides its bytes. */
export interface WriteOptions {
  readonly attributes: ArtifactAttributes;
  readonly chunking: ChunkingHint;
  /** When known in advance; the archive needs no spooling then. A body of another length is an error. */
  readonly sizeBytes?: number;
  /** Recorded so that a later snapshot can skip the file when nothing of it changed. */
  readonly identity?: FileIdentity;
  readonly signal: AbortSignal;
}

/** A body that lies in the destination and in no directory of the snapshot yet. */
export interface StoredBody {
  readonly sizeBytes: number;
  /** Of the whole body, lower-case hex. */
  readonly sha256: string;
  /** As in `ManifestArtifact`. */
  readonly chunking?: string;
  /** Where its bytes are, in the destination's own terms. It may be kept in a file meanwhile. */
  readonly token: Uint8Array;
}

/** What a sink is told of a body that is to be placed later. */
export type StoreOptions = Pick<WriteOptions, 'chunking' | 'sizeBytes' | 'signal'>;

/**
 * Stores bodies before it is known whether they belong to the snapshot: a file that is read before the cut may be another
 * one at the cut, or gone. A body that is never placed leaves nothing in the snapshot.
 */
export interface BodyStore {
  /**
   * @param path where the body will probably be placed; it is cut as the parent's artifact of that path was
   * @param body as that of {@link ArtifactSink.write}
   */
  store(path: string, body: Bytes, options: StoreOptions): Promise<StoredBody>;
  /** The body that {@link ArtifactSink.reuse} would take over, without recording anything. */
  known(path: string, identity: FileIdentity): Promise<StoredBody | undefined>;
  /** Records an artifact with a body of this snapshot's {@link store} or {@link known}. */
  place(
    path: string,
    body: StoredBody,
    options: Pick<WriteOptions, 'attributes' | 'identity'>,
  ): Promise<ManifestArtifact>;
}

/**
 * Where a capture writes its artifacts: a repository snapshot or an archive under construction. Paths and link targets
 * are strings in which bytes that are not UTF-8 stand as in model/byte-text.ts: any name of the file system can be kept.
 */
export interface ArtifactSink {
  /** True for a repository (encrypted), false for an archive in the clear. */
  readonly encrypted: boolean;
  /** Absent for an archive: its entries have one order, and there is no room beside them. */
  readonly bodies?: BodyStore;
  /**
   * Stores one artifact. May be called concurrently; `body` is consumed at the sink's pace (back-pressure) and
   * its iterator is closed on failure. A chunk is the sink's from the moment it is yielded, and its memory may be
   * gone when the body goes on: neither reuse nor read it then.
   * @param path relative to the snapshot's root, `/`-separated; parents are created as needed
   */
  write(path: string, body: Bytes, options: WriteOptions): Promise<ManifestArtifact>;
  /**
   * Takes the artifact over from the parent snapshot without reading it, when that has the same path with the
   * same identity and all its blobs are still there; otherwise undefined, and the caller writes it. A file that had
   * changed within two seconds before the parent was begun, or after that, is written again: its time stamp proves nothing.
   * @param attributes recorded in place of the parent's, whose extended attributes may never have been asked for
   */
  reuse(
    path: string,
    identity: FileIdentity,
    attributes?: ArtifactAttributes,
  ): Promise<ManifestArtifact | undefined>;
  /** Records a directory with its attributes (empty ones too). Intermediate directories need no call. */
  directory(path: string, attributes: ArtifactAttributes): Promise<void>;
  symlink(path: string, target: string, attributes: ArtifactAttributes): Promise<void>;
  /**
   * Records `path` as one more name of the file that was written or reused as `existing` in this snapshot. It becomes an
   * artifact of its own, with the same bytes. Both identities tell the device and the number of names.
   * @throws TarsError `artifact-not-found` when as many names were given as the file has, or it never had several:
   * `path` can be written like any other file then
   */
  link(path: string, existing: string, identity: FileIdentity): Promise<ManifestArtifact>;
  /** An archive leaves sockets out: a tar cannot hold them, and without its process a socket is of no use. */
  special(path: string, file: SpecialFile, attributes: ArtifactAttributes): Promise<void>;
  /**
   * Promises that nothing more will be written at or below this directory: it may be stored now, and leave memory.
   * Optional for the caller; whatever is not finished is stored when the snapshot is published.
   */
  finish(path: string): Promise<void>;
}

/** One entry of a snapshot's tree. */
export interface ArtifactEntry {
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | SpecialFile['type'] | 'other';
  readonly sizeBytes: number;
  readonly attributes: ArtifactAttributes;
  readonly linkTarget?: string;
  /** The same for all names of one file, unlike those of other files of the snapshot; absent where it has one name. */
  readonly linkGroup?: string;
  /** `st_rdev` of a device. */
  readonly device?: bigint;
}

/** Where a restore reads from: a repository snapshot or an opened archive. */
export interface ArtifactSource {
  /** Entries at and below `prefix` ('' for all), parents before children, in byte order of names. */
  entries(prefix: string, signal: AbortSignal): AsyncIterable<ArtifactEntry>;
  /**
   * The artifact's bytes. Every blob is authenticated and hashed before its bytes are handed out.
   * @throws TarsError `artifact-not-found`
   * @throws CorruptionError when a blob is damaged or missing
   */
  open(path: string, signal: AbortSignal): Bytes;
}
