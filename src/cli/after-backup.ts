import { countAmounts } from '../composition/index.ts';
import { counted } from '../model/plural.ts';
import { toTarsError } from '../model/errors.ts';
import { executeForget, planForget, removedBy } from '../operations/retention/forget.ts';
import type { SnapshotShelf } from '../ports/snapshot-shelf.ts';
import { ownerOf, type Settings } from '../settings/load.ts';
import { retentionRules, type RuleSettings } from '../settings/retention.ts';
import { describedStack, outcomeOfFailure, outcomeOfPlan, warnOfPlan } from './retention-note.ts';
import type { Session } from './session.ts';

/** Where the backup went, and which rules its flags gave. */
interface AfterBackup {
  /** The directory of its archive; undefined for the repository. */
  readonly outputDir: string | undefined;
  readonly rules: RuleSettings | undefined;
}

/**
 * Forgets what `rules` do not keep of the stack on this host, or without them what `retention:` does not, when it says that backups
 * do so. The backup is done and good whatever happens here, so that what fails is a warning, and noted.
 */
export async function forgetAfterBackup(
  { ctx, noteRetention }: Pick<Session, 'ctx' | 'noteRetention'>,
  shelf: SnapshotShelf,
  settings: Settings,
  { outputDir, rules }: AfterBackup,
): Promise<void> {
  const { retention } = settings;
  const owner = ownerOf(settings);
  const isRepository = outputDir === undefined;
  const configured = isRepository ? retention : retention?.archives;
  const wanted = rules ?? (retention?.after_backup === true ? configured : undefined);
  if (wanted === undefined) return;
  try {
    const described = describedStack(settings);
    const request = {
      ...owner,
      rules: retentionRules(wanted),
      allowLast: false,
      allowShrunk: false,
      described,
      count: countAmounts,
    };
    const plan = await planForget(shelf, request, ctx);
    const place = { outputDir, rules };
    warnOfPlan(plan, place, owner, ctx);
    await executeForget(shelf, plan, ctx);
    const [own] = plan.stacks;
    if (isRepository && own !== undefined) noteRetention(outcomeOfPlan(own, place));
    const gone = removedBy(plan).length;
    if (gone > 0) ctx.log.info(`Retention: ${counted(gone, 'snapshot')} forgotten`);
  } catch (error) {
    const { message, hint } = toTarsError(error, 'Unexpected failure');
    if (isRepository) noteRetention(outcomeOfFailure(message, settings));
    ctx.log.warn(
      `The backup is complete, but old ones could not be forgotten: ${message}${hint === undefined ? '' : `. ${hint}`}`,
    );
  }
}
