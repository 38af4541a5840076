import type { SwapRecord } from '../model/restore-plan.ts';

/** What one restore did so far; enough to put things right after a crash, and to go back later. */
export interface RestoreJournalEntry {
  readonly restoreId: string;
  readonly stack: string;
  readonly snapshot: string;
  readonly startedAt: string;
  /** `staging`: nothing live changed. `swapping`: some may have. `swapped`: all did. `done`: finished. */
  readonly phase: 'staging' | 'swapping' | 'swapped' | 'done';
  /** Services this restore stopped, in the order they were stopped. */
  readonly stopped: readonly string[];
  /** Services that must be down while data is exchanged, whoever stopped them. */
  readonly offline: readonly string[];
  readonly records: readonly SwapRecord[];
}

export interface PendingRestore {
  readonly entry: RestoreJournalEntry;
  /** Whether the process that wrote it still runs. */
  readonly alive: boolean;
}

/** Durable record of restores of one machine. */
export interface RestoreJournal {
  /** Replaces the restore's entry; durable when it resolves. */
  write(entry: RestoreJournalEntry): Promise<void>;
  /** Entries whose phase is not `done`, oldest first. */
  pending(): Promise<readonly PendingRestore[]>;
  remove(restoreId: string): Promise<void>;
}
