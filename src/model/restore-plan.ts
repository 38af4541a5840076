import type { ComponentManifest } from './manifest.ts';

/** What one component would do to restore, as it is shown; JSON. */
export interface RestorePlan {
  readonly component: string;
  readonly kind: string;
  /** One line per step in the order of execution, for a person, naming what is replaced and where it is kept. */
  readonly steps: readonly string[];
  readonly warnings: readonly string[];
  /** Artifacts read during the restore, as manifest paths; all are verified before anything is changed. */
  readonly artifacts: readonly string[];
  /** Folders of the snapshot all of whose artifacts are read too. */
  readonly artifactTrees?: readonly string[];
  readonly requires: {
    /** Services that must be stopped while the swap happens. */
    readonly stopped: readonly string[];
    /** Services that must be running while staging (and again afterwards). */
    readonly running: readonly string[];
  };
  /** Space needed beside the live data, by directory. */
  readonly space: readonly { readonly path: string; readonly sizeBytes: number }[];
  /** What of the capture is restored, when it is not all of it. */
  readonly part?: ComponentManifest;
}

/** How the operator wants a restore to go. */
export interface RestoreOptions {
  /** Replace configuration files that exist and differ (the previous ones are moved aside). */
  readonly restoreConfig: boolean;
  /** Identifies this restore; lower-case letters and digits, used in the names of staged and previous data. */
  readonly restoreId: string;
  /** Only these databases of a server that has several; all when undefined. */
  readonly databases?: readonly string[] | undefined;
}

/**
 * Everything needed to undo or complete one component's swap, also by another process after a crash.
 * Written to the journal before the swap begins; JSON only, no secrets.
 */
export interface SwapRecord {
  readonly component: string;
  readonly kind: string;
  /** What the operator would type to go back by hand. */
  readonly wayBack: readonly string[];
  readonly details: Readonly<Record<string, unknown>>;
}
