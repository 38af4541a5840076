import { countAmounts, runLogOf } from '../../composition/index.ts';
import { forgetAfterBackup } from '../../operations/retention/after-backup.ts';
import type { DescribedStack } from '../../operations/retention/forget.ts';
import { recordedRetention } from '../../operations/retention/note.ts';
import type { RetentionOutcome } from '../../ports/run-log.ts';
import type { SnapshotShelf } from '../../ports/snapshot-shelf.ts';
import { ownerOf, type Settings } from '../../settings/load.ts';
import { retentionRules, type RuleSettings } from '../../settings/retention.ts';
import { forgetAnyway } from '../flags.ts';
import type { Session } from '../session/session.ts';

/** The last outcome of retention that is recorded for the stack of `settings`. */
export const lastRetentionOf = (settings: Settings): RetentionOutcome | undefined =>
  recordedRetention(runLogOf(settings));

/** What planning a forget must know of the stack of tars.yaml. */
export const describedStack = (settings: Settings): DescribedStack => ({
  ...ownerOf(settings),
  components: Object.keys(settings.components),
  letGo: lastRetentionOf(settings)?.letGo ?? [],
});

/** Where a backup went, and which rules its flags gave. */
interface BackupPlace {
  /** The directory of its archive; undefined for the repository. */
  readonly outputDir: string | undefined;
  readonly rules: RuleSettings | undefined;
}

/** Forgets by the rules of the flags, or without them by those of `retention:`, when it says that backups do so. */
export async function forgetOld(
  { ctx, noteRetention }: Pick<Session, 'ctx' | 'noteRetention'>,
  shelf: SnapshotShelf,
  settings: Settings,
  place: BackupPlace,
): Promise<void> {
  const { retention } = settings;
  const isRepository = place.outputDir === undefined;
  const configured = isRepository ? retention : retention?.archives;
  const wanted = place.rules ?? (retention?.after_backup === true ? configured : undefined);
  if (wanted === undefined) return;
  const request = {
    described: describedStack(settings),
    rules: () => retentionRules(wanted),
    count: countAmounts,
    command: forgetAnyway(place),
    last: lastRetentionOf(settings),
    note: isRepository ? noteRetention : undefined,
  };
  await forgetAfterBackup(shelf, request, ctx);
}
