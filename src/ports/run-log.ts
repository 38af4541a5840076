/** The verbs whose runs are recorded. */
export const recordedVerbs = ['backup', 'forget', 'prune', 'check'] as const;
/** One of {@link recordedVerbs}. */
export type RecordedVerb = (typeof recordedVerbs)[number];

/** What a run made of retention in the repository. */
export interface RetentionOutcome {
  /** Why nothing was forgotten although rules say so; empty when they were followed. */
  readonly heldBack: readonly string[];
  /** The command that follows the rules all the same. */
  readonly command: string;
  /** Components that tars.yaml names no more, and whose last snapshots the operator has let go. */
  readonly letGo: readonly string[];
  /** Snapshots that stay and are of a time that has not come yet: a clock was wrong. */
  readonly ahead: readonly { readonly id: string; readonly time: Date }[];
  /** Why old snapshots could not be forgotten after a backup, which itself went well. */
  readonly failure?: string | undefined;
}

/** How a run ended: with what exit code, and what for. */
export interface RunEnd {
  readonly exitCode: number;
  /** `interrupted` by a signal, `locked` out by another run; neither did its work. */
  readonly outcome: 'ok' | 'partial' | 'failed' | 'locked' | 'interrupted';
  readonly snapshot?: string | undefined;
  /** Bytes of all artifacts, before deduplication and compression. */
  readonly capturedBytes?: number | undefined;
  readonly addedBytes?: number | undefined;
  /** The first thing that went wrong, as it was said: without secrets. */
  readonly error?: { readonly code: string; readonly message: string } | undefined;
  /** Of runs that looked at retention. */
  readonly retention?: RetentionOutcome | undefined;
}

/** One run of a verb over a stack. */
export interface RunRecord {
  readonly id: string;
  readonly verb: RecordedVerb;
  /** Names of the options and arguments given, without their values: `only`, `outputDir`, `snapshots`. */
  readonly options: readonly string[];
  readonly pid: number;
  readonly startedAt: Date;
  readonly finishedAt?: Date | undefined;
  /** Undefined while it runs, and when it was killed. */
  readonly end?: RunEnd | undefined;
  readonly state: 'running' | 'finished' | 'killed';
}

/** A run that has been recorded as started. */
export interface OpenRun {
  /** Records its end; durable when it returns. Called once. */
  finish(end: RunEnd, at: Date): void;
}

/**
 * The durable record of a stack's last runs on this machine, those that were killed included. A few small writes a day:
 * they are synchronous, so that no two of a process come between one another.
 * @throws TarsError when the record cannot be read or written
 */
export interface RunLog {
  /** Durable when it returns. */
  begin(run: { readonly verb: RecordedVerb; readonly options: readonly string[] }, at: Date): OpenRun;
  /** Oldest first. The newest ones, and for each verb the newest that finished and that went well. */
  runs(): readonly RunRecord[];
}

/** Who holds a claim: `tars VERB`, as process `pid`, since then. */
export interface ClaimHolder {
  readonly verb: string;
  readonly pid: number;
  readonly since: Date;
}

/** What excludes runs of one stack on one machine from one another. */
export interface StackClaims {
  /**
   * Held until it is disposed or the process ends, however it does.
   * @throws RepositoryLockedError naming verb, pid and time while another process holds it
   */
  claim(name: ClaimName, verb: string, at: Date): Promise<Disposable>;
  /** Who holds it now; for a moment after it was taken nobody is known. */
  holder(name: ClaimName): Promise<ClaimHolder | undefined>;
}

/**
 * `work`: changes the repository or the stack. `check`: reads the whole repository, which goes together with a backup.
 * `daemon`: runs the schedule.
 */
export type ClaimName = 'work' | 'check' | 'daemon';
