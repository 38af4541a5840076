import type { OperationContext } from '../../ports/context.ts';
import type { RestoreJournal, RestoreJournalEntry } from '../../ports/journal.ts';
import type { SnapshotSource } from '../../ports/snapshot-store.ts';
import type { StackRestorePlan } from './plan.ts';
import type { RestoreTarget } from './target.ts';

/** One restore under way: what it works on, and the journal's entry, written before what it says happens. */
export interface Run {
  readonly plan: StackRestorePlan;
  readonly source: SnapshotSource;
  readonly target: RestoreTarget;
  readonly journal: RestoreJournal;
  readonly ctx: OperationContext;
  readonly entry: () => RestoreJournalEntry;
  readonly note: (change: Partial<RestoreJournalEntry>) => Promise<void>;
}
