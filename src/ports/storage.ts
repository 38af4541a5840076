/** A kind of repository file; `config` is a single file without a name. */
export type StorageFileType = 'config' | 'keys' | 'data' | 'index' | 'snapshots' | 'locks';

/** The address of a file of the repository, in the layout of restic (`doc/design.rst`, "Repository Layout"). */
export interface StorageFile {
  readonly type: StorageFileType;
  /** 64 hex digits; empty for `config`. */
  readonly name: string;
}

/** Dumb storage for repository files. Every adapter passes the same conformance suite. */
export interface StorageBackend {
  /** For people and messages, such as a path or URL without credentials. */
  readonly location: string;
  /** Creates the empty structure. @throws TarsError `storage-exists` when there is a repository */
  create(signal: AbortSignal): Promise<void>;
  /**
   * Stores the whole file or nothing, durable when it resolves. Locks need not be durable.
   * @throws TarsError `storage-exists` | `no-space` | `access-denied`
   */
  save(file: StorageFile, content: readonly Uint8Array[], signal: AbortSignal): Promise<void>;
  /** Reads `lengthBytes` from `offsetBytes`, or all of it. @throws TarsError `storage-not-found`; short reads throw too */
  load(
    file: StorageFile,
    range: { offsetBytes: number; lengthBytes: number } | undefined,
    signal: AbortSignal,
  ): Promise<Uint8Array>;
  /** @throws TarsError `storage-not-found` */
  stat(file: StorageFile, signal: AbortSignal): Promise<{ readonly sizeBytes: number }>;
  list(
    type: StorageFileType,
    signal: AbortSignal,
  ): AsyncIterable<{ readonly name: string; readonly sizeBytes: number }>;
  /** Removing what is not there is no error. */
  remove(file: StorageFile, signal: AbortSignal): Promise<void>;
  /**
   * Removes what saves that were cut off left behind, and returns its bytes. Only for whoever holds an exclusive lock;
   * unfinished locks stay, as others may be writing theirs at this moment.
   */
  removeUnfinished(signal: AbortSignal): Promise<number>;
}
