import type { ArtifactAttributes, Bytes, FileIdentity } from './artifacts.ts';
import type { OperationContext } from './context.ts';

/** One entry of a store's directory. */
export interface VolumeEntry {
  /** Relative to the directory, `/`-separated. */
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  readonly attributes: ArtifactAttributes;
  readonly identity: FileIdentity;
}

/** Every entry of a directory at one time. */
export interface VolumeListing {
  /** The directory itself. */
  readonly root: VolumeEntry;
  /** Everything below it by path, parents first. */
  readonly entries: ReadonlyMap<string, VolumeEntry>;
  /** On the clock that the entries' times are of. */
  readonly takenAtNs: bigint;
  /** Whether times are finer than seconds, so that equal identities mean equal content. */
  readonly fineTimes: boolean;
}

/** A file as it is read. The body must be read or left before anything else is read. */
export interface VolumeFile {
  readonly sizeBytes: number;
  /** Of a symbolic link. */
  readonly linkTarget: string | undefined;
  readonly body: Bytes;
}

/** Something to be created in a store's directory. */
export interface NewEntry {
  /** Relative to the directory; parents come first. */
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'link';
  readonly attributes: ArtifactAttributes;
  readonly sizeBytes: number;
  /** Of a symbolic link; for `link` the path of an earlier file. */
  readonly linkTarget?: string;
  readonly body?: Bytes;
}

/**
 * What replaces what in a store's directory, by renames inside it: what is live moves to `.tars-prev-<id>`, what is
 * staged in `.tars-new-<id>` takes its place. Each call recognises what was done before a crash.
 */
export interface VolumeExchange {
  readonly restoreId: string;
  readonly part: ExchangedPart;
}

/** What an exchange replaces or sets aside: whatever is in the directory, or these paths and nothing else. */
export type ExchangedPart = { readonly all: true } | { readonly paths: readonly string[] };

/** A store's directory that this process cannot reach by path, such as an Engine's volume. Opened for some work. */
export interface OpenVolume extends AsyncDisposable {
  /** Undefined when there is no such directory. */
  list(signal: AbortSignal): Promise<VolumeListing | undefined>;
  /** One file or symbolic link; undefined when it is not there. What changes meanwhile makes `body` fail. */
  read(path: string, signal: AbortSignal): Promise<VolumeFile | undefined>;
  /** SHA-256 in hex of every file at and below `path`, by path; undefined where nobody can tell. */
  hashes(path: string, signal: AbortSignal): Promise<ReadonlyMap<string, string> | undefined>;
  /** Creates entries, in a directory that is created where it is missing; what is there already is replaced. */
  write(entries: AsyncIterable<NewEntry>, signal: AbortSignal): Promise<void>;
  /** Removes a tree; harmless when it is not there. */
  remove(path: string, signal: AbortSignal): Promise<void>;
  /** Sets the live data aside and puts the staged in its place. */
  swap(exchange: VolumeExchange, signal: AbortSignal): Promise<void>;
  /** Puts the previous data back and removes what had replaced it. @returns what is kept aside, being neither */
  undo(exchange: VolumeExchange, signal: AbortSignal): Promise<readonly string[]>;
  /** Deletes the previous data. */
  discardPrevious(exchange: VolumeExchange, signal: AbortSignal): Promise<void>;
}

/** The place of a store's files where this machine has no path to it. An opened one must be disposed of. */
export interface StoreVolume {
  /** For a person, such as `/data in the volume home_chroma_data`. */
  readonly label: string;
  open(access: 'read' | 'write', ctx: OperationContext): Promise<OpenVolume>;
  /** What to type to have a shell there: the exchange is then undone by hand with these lines. */
  wayBack(exchange: VolumeExchange): readonly string[];
  /** What to type to remove something in the directory for good. */
  removal(path: string): string;
  /** Whether the store runs, and may write. */
  running(): Promise<boolean>;
}

/** Keeps a store from writing for a moment, without which its files cannot be copied. */
export interface StoreHold {
  /** Prepares the hold; slow. From now on the store resumes by itself if this process dies. */
  prepare(way: 'freeze' | 'stop', ctx: OperationContext): Promise<PreparedHold>;
}

/** A hold that begins at once when it is told to. Disposing of it lets the store go on. */
export interface PreparedHold extends AsyncDisposable {
  /** For how long the store was kept from writing, since {@link begin} was called. */
  readonly heldMs: number;
  begin(signal: AbortSignal): Promise<void>;
  /** Resumes the store. @returns false when it had already been resumed */
  end(): Promise<boolean>;
}
