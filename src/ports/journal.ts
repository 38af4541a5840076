import type { SwapRecord } from '../model/restore-plan.ts';
import type { ServiceMount, StopAndStart } from './runtime.ts';
import type { CreatedResources, ExistingResources } from './provisioner.ts';

/**
 * What a restore belongs to, beside its stack's name: two projects may have the same. It is recognised by its repository
 * or by its `tars.yaml`, one of which may have moved.
 */
export interface RestoreOrigin {
  readonly host: string;
  /** Undefined where no repository was ever seen. */
  readonly repository?: string | undefined;
  /** The path of `tars.yaml`. */
  readonly settings: string;
}

/** Where a component's data is, so that it can be told whether that still exists when its service does not. */
export interface JournalledMount extends Omit<ServiceMount, 'measure'> {
  readonly component: string;
}

/** What one restore did so far; enough to put things right after a crash, and to go back later. */
export interface RestoreJournalEntry {
  readonly restoreId: string;
  readonly stack: string;
  /** Undefined in what 1.0.12 and older wrote: then the stack's name decides. */
  readonly origin?: RestoreOrigin | undefined;
  readonly snapshot: string;
  readonly startedAt: string;
  /** Names of the components it restores; a staging that was cut off left no record yet. */
  readonly components: readonly string[];
  /**
   * `staging`: no live data changed, though services may have been stopped. `swapping`: some may have changed.
   * `swapped`: all did. `done`: finished.
   */
  readonly phase: 'staging' | 'swapping' | 'swapped' | 'done';
  /** Services this restore stopped, in the order they were stopped. */
  readonly stopped: readonly string[];
  /** Services that must be down while data is exchanged, no matter who stopped them. */
  readonly offline: readonly string[];
  readonly records: readonly SwapRecord[];
  /** Where the services of the records keep their data. Undefined in what 1.0.12 and older wrote. */
  readonly mounts?: readonly JournalledMount[] | undefined;
  /** What a person types before and after the way back of the records. */
  readonly byHand?: StopAndStart | undefined;
  /** What there was before anything was created; until {@link created} says what was. */
  readonly creating?: ExistingResources | undefined;
  /** Containers and volumes that were not there before. */
  readonly created?: CreatedResources | undefined;
}

/** A restore whose entry is still open: it runs, or was interrupted. */
export interface PendingRestore {
  readonly entry: RestoreJournalEntry;
  /** Whether the process that wrote it still runs and still works on it. */
  readonly alive: boolean;
}

/** Durable record of restores of one machine. */
export interface RestoreJournal {
  /**
   * Held while a stack is restored or a cut-off restore put right: by one process at a time, until it is disposed or
   * the process ends, however it does. Whoever holds it knows that no restore is under way but their own. With it goes
   * the hold on every entry written meanwhile.
   * @throws RestoreRefusedError while another process holds it
   */
  claim(): Promise<AsyncDisposable>;
  /**
   * Replaces the restore's entry; durable when it resolves. As long as all data is swapped and the previous one kept,
   * the way back stands in {@link wayBackFile} too.
   */
  write(entry: RestoreJournalEntry): Promise<void>;
  /** Where a person reads the way back; it is there from the phase `swapped` on. */
  wayBackFile(restoreId: string): string;
  /** Entries whose phase is not `done`, oldest first. */
  pending(): Promise<readonly PendingRestore[]>;
  /** Whether a restore is recorded that may have left something: previous data that is kept, or one that was cut off. */
  mayHaveLeft(): Promise<boolean>;
  remove(restoreId: string): Promise<void>;
}
