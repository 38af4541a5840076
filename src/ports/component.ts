import type { Finding } from '../model/finding.ts';
import type { ComponentManifest, Incomplete, NotCaptured } from '../model/manifest.ts';
import type { RestoreOptions, RestorePlan, SwapRecord } from '../model/restore-plan.ts';
import type { ArtifactSink, ArtifactSource } from './artifacts.ts';
import type { CapturedPlace } from '../model/captured-place.ts';
import type { OperationContext } from './context.ts';

/** What {@link Component.probe} found. */
export interface ComponentProbe {
  readonly serverVersion: string | undefined;
  /** Approximate bytes a capture will read, for plans and space checks. */
  readonly sizeBytes: number;
  /** For a person: what is there, such as `3 databases, 41 tables` . */
  readonly summary: string;
  readonly warnings: readonly string[];
}

/** What a capture reports beside the artifacts it wrote; becomes the component's part of the manifest. */
export interface CaptureReport {
  readonly serverVersion: string | undefined;
  readonly method: string;
  readonly writesBlockedMs: number;
  readonly facts: Readonly<Record<string, unknown>>;
  /** What could not be captured beside what was; absent when nothing is missing. */
  readonly incomplete?: Incomplete;
}

/** Data that a restore left, which takes space and is no part of the stack. */
export interface Leftover {
  /** For a person: a path, or `database "main_tars_prev_1a2b3c4d"`. It ends with the id of the restore. */
  readonly what: string;
  readonly sizeBytes?: number;
  /** The shell line that removes it for good. */
  readonly remove: string;
}

/**
 * A store we capture, bound to one configured place: the same object captures from there and restores to there
 * (another target is another object). One folder per kind.
 */
export interface Component {
  /** Unique in the stack; also the folder of its artifacts in the snapshot. Defaults to the kind. */
  readonly name: string;
  readonly kind: string;
  /** The service of the runtime this store runs in, when it has one. */
  readonly service: string | undefined;
  /** Looks at the live store, for plans. Cheap, and changes nothing. */
  probe(ctx: OperationContext): Promise<ComponentProbe>;
  /** What of its service's mounts it captures. Absent where services have none that the runtime knows of. */
  places?(ctx: OperationContext): Promise<readonly CapturedPlace[]>;
  /** What restores left: previous data that nobody has discarded, staged data of one that was killed. Changes nothing. */
  leftovers?(ctx: OperationContext): Promise<readonly Leftover[]>;
  /** What belongs to it or lies in its places, and is captured by nothing. Absent where nothing can. */
  leftOut?(ctx: OperationContext): Promise<readonly NotCaptured[]>;
  /**
   * One attempt to see whether the store answers and would accept work. Cheap.
   * @throws ServiceUnavailableError when it does not (yet)
   */
  ready(ctx: OperationContext): Promise<void>;
  /**
   * Its captures have a {@link PreparedCapture.precapture}. They are prepared and precaptured first, so that no
   * connection of another component stays open as long as that takes.
   */
  readonly precaptures?: boolean;
  /** Opens connections and does everything slow that may come before the mark. Never mutates the store. */
  prepare(ctx: OperationContext): Promise<PreparedCapture>;
  /**
   * Decides how `from` would be restored here; touches nothing.
   * @throws RestoreRefusedError when it cannot be done safely (version lower, extension missing, no space…)
   */
  planRestore(
    from: ComponentManifest,
    options: RestoreOptions,
    ctx: OperationContext,
    source: ArtifactSource,
  ): Promise<PlannedRestore>;
  /**
   * Removes what {@link PlannedRestore.stage} left when it was cut off before it returned. Touches nothing live; harmless when there
   * is nothing.
   */
  removeStaged(restoreId: string, ctx: OperationContext): Promise<void>;
  /** The swap described by a journalled record, for going back or for tidying up; also after a crash. */
  generation(record: SwapRecord): Generation;
  /** Compares what is live here with the capture: with its facts, and where these are not all, with its entries. */
  verify(from: ComponentManifest, ctx: OperationContext, source: ArtifactSource): Promise<readonly Finding[]>;
}

/** What a mark has to know of the moment that it is called in. */
export interface MarkTerms {
  /** A mark that takes longer is abandoned, and its component fails. */
  readonly timeoutMs: number;
  /** Every service that may write is paused or does not run, as far as is known. */
  readonly isQuiet: boolean;
}

/**
 * One capture of a store, from the open connections on: precapture, mark, settle, capture, each once and in this order.
 * Disposing of it, at any time, lets go of the live store.
 */
export interface PreparedCapture extends AsyncDisposable {
  /**
   * `cut` when {@link mark} fixes the store's state at that moment; `own` when it cannot. May turn to `own` until
   * {@link capture} has ended.
   */
  readonly pointInTime: 'cut' | 'own';
  /** Why it is `own` and what to do about it, as the end of a sentence that names the component. */
  readonly ownReason?: string | undefined;
  /**
   * Called while writers run, before anything else of this capture: may take as long as the store is large. Stores what
   * will probably not change until the mark, so that the mark has little left to fix. Absent where nothing is gained.
   */
  precapture?(sink: ArtifactSink, ctx: OperationContext): Promise<void>;
  /**
   * Called before writers are paused, for a store that one of them may have in its own process: such a writer, once
   * paused, would keep the lock it holds at that moment. Nothing writes to the store from here until {@link settle}.
   */
  holdWrites?(signal: AbortSignal): Promise<void>;
  /**
   * Called inside the writer pause, all components at once: milliseconds, fixes the point in time.
   * @param terms absent where nobody is paused and nobody waits
   */
  mark(signal: AbortSignal, terms?: MarkTerms): Promise<void>;
  /** Called right after the writers resumed, all components at once: leaves the live store (releases locks). */
  settle(ctx: OperationContext): Promise<void>;
  /** Streams the marked state out at leisure. Artifact paths start with `${component.name}/`. */
  capture(sink: ArtifactSink, ctx: OperationContext): Promise<CaptureReport>;
}

/** A restore that was decided on: it is shown, and then staged once. */
export interface PlannedRestore {
  /** What is shown, by `--dry-run` too. */
  readonly plan: RestorePlan;
  /**
   * Builds the restored data beside the live data. Nothing live changes; on failure nothing staged remains.
   * @throws TarsError `internal` when it was called before: what was decided holds for one restore
   */
  stage(source: ArtifactSource, ctx: OperationContext): Promise<Staged>;
}

/** Restored data beside the live data, not yet in use. */
export interface Staged {
  /** What the swap will do; the operation journals it before calling {@link swap}. */
  readonly record: SwapRecord;
  /** Absolute paths that the swap replaces. Undefined when the running server exchanges its own data. */
  readonly replaces: readonly string[] | undefined;
  /** Checks the staged data offline or beside the live store. */
  verify(ctx: OperationContext): Promise<readonly Finding[]>;
  /** Puts the staged data in place and moves the previous data aside. `requires.stopped` services are stopped. */
  swap(ctx: OperationContext): Promise<void>;
  /** Removes the staged data; harmless after a swap. */
  discard(ctx: OperationContext): Promise<void>;
}

/** The previous data of one swap. Both calls are idempotent and start from whatever state a crash left. */
export interface Generation {
  /** Puts the previous data back; what had been swapped in is moved out and removed. Services are stopped. */
  undo(ctx: OperationContext): Promise<void>;
  /** Deletes the previous data for good. */
  discardPrevious(ctx: OperationContext): Promise<void>;
}
