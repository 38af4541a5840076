/** What a project that was not made for tars consists of, as far as it can be told. */
export interface StackInventory {
  readonly project: string;
  /** The Engine, where its address has to be written down: not the default one. */
  readonly host: string | undefined;
  /** Whether it was looked at through its containers, or through its Compose files alone. */
  readonly seenThrough: 'containers' | 'files';
  /** Absolute. */
  readonly composeFiles: readonly string[];
  /** As given to `docker compose --env-file`, absolute. */
  readonly envFiles: readonly string[];
  readonly stores: readonly FoundStore[];
  readonly writers: readonly FoundWriter[];
  /** Files with settings that the project consists of, absolute. */
  readonly files: readonly FoundFile[];
  /** The places that each need a component of kind `files`. */
  readonly places: readonly FoundPlace[];
  /** What no component captures, these included: each mount with the reason. */
  readonly leftOut: readonly LeftOutMount[];
  /** Names of the project's volumes that none of its services has. */
  readonly unusedVolumes: readonly string[];
  /** What a person should know and decide. */
  readonly notes: readonly string[];
}

/** A service that is taken for a store, and what is known of the way in. Never a password itself. */
export interface FoundStore {
  readonly service: string;
  readonly kind: string;
  /** Such as `by its image postgres:15`. */
  readonly how: string;
  /** The password's file on this machine, when the container is given one. */
  readonly passwordFile: string | undefined;
  /**
   * `known`: from the container's environment or command. `needed`: it asks for one that is not known. `unknown`: it does
   * not answer, so whether it asks for one is not known.
   */
  readonly password: 'known' | 'file' | 'none' | 'needed' | 'unknown';
  /** When it is not the usual one. */
  readonly port: number | undefined;
  /** It takes encrypted connections alone. */
  readonly tls: boolean;
  /** What is wrong with it. */
  readonly warning: string | undefined;
  /** What a backup is while that lasts. */
  readonly riskIfUnmounted: 'AT RISK' | 'NOT CAPTURED';
  /** Further lines for its section of a new `tars.yaml`, without indent. */
  readonly proposal: readonly string[];
}

/** A service that is taken for one that writes to a store, and so is paused for the cut. */
export interface FoundWriter {
  readonly service: string;
  /** Such as `depends on db`. */
  readonly why: string;
}

/** A file of the configuration. */
export interface FoundFile {
  readonly path: string;
  /** Why it cannot be captured as it is; undefined for a good one. */
  readonly problem: string | undefined;
}

/** A place where services keep files: a volume or a directory, however many of them have it at however many paths. */
export interface FoundPlace {
  /** Of its component. It follows from the place, so that it is the same at every look. */
  readonly name: string;
  /** A service that has all of it. */
  readonly service: string;
  /** Where that service has it. */
  readonly inside: string;
  readonly type: 'volume' | 'bind' | 'other';
  /** The volume's name, or the path. */
  readonly source: string;
  /** Where its files are on the services' machine. */
  readonly path: string;
  /** Undefined where finding out takes long. */
  readonly sizeBytes: number | undefined;
  /** Other mounts of it, or of something in it: `worker:/srv`. */
  readonly others: readonly string[];
  /** The services that may write there. */
  readonly writers: readonly string[];
  /** Patterns of what other components capture of it. */
  readonly exclude: readonly string[];
}

/** A mount that none of the proposed components captures. */
export interface LeftOutMount {
  readonly service: string;
  readonly type: 'volume' | 'bind' | 'other';
  readonly source: string;
  readonly destination: string;
  readonly path: string;
  readonly sizeBytes: number | undefined;
  /** Files, such as a socket, are nothing to capture as a directory. */
  readonly isDirectory: boolean;
  /** It is a single file that can be read. */
  readonly isFile?: boolean;
  /** Why a restore need not bring it back; undefined where it should. */
  readonly reason: string | undefined;
  /** Why it cannot be captured although a restore should bring it back. */
  readonly problem: string | undefined;
}
