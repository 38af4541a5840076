import { toTarsError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { RetentionRules } from '../../model/retention.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RetentionOutcome } from '../../ports/run-log.ts';
import type { SnapshotShelf } from '../../ports/snapshot-shelf.ts';
import { executeForget, planForget, removedBy, type DescribedStack, type ForgetRequest } from './forget.ts';
import { outcomeOfFailure, outcomeOfPlan, warnOfPlan, type CommandAnyway } from './note.ts';

/** What a backup that is complete forgets, and what is recorded of it. */
interface AfterBackup {
  /** The stack that was backed up; nothing of others is forgotten. */
  readonly described: DescribedStack;
  /** @throws ConfigurationError when they cannot be understood */
  readonly rules: () => RetentionRules;
  /** What a component of a snapshot holds, to be compared. */
  readonly count: ForgetRequest['count'];
  readonly command: CommandAnyway;
  /** The last outcome that is recorded. */
  readonly last: RetentionOutcome | undefined;
  /** Records the outcome; undefined for archives, of which nothing is recorded. */
  readonly note: ((outcome: RetentionOutcome) => void) | undefined;
}

/**
 * Forgets what the rules do not keep. The backup is done and good whatever happens here, so that what fails is a
 * warning, and noted.
 */
export async function forgetAfterBackup(
  shelf: SnapshotShelf,
  { described, rules, count, command, last, note }: AfterBackup,
  ctx: OperationContext,
): Promise<void> {
  try {
    const { stack, hostname } = described;
    const allowances = { allowLast: false, allowShrunk: false };
    const request = { ...allowances, stack, hostname, rules: rules(), described, count };
    const plan = await planForget(shelf, request, ctx);
    warnOfPlan(plan, described, command, ctx);
    await executeForget(shelf, plan, ctx);
    const [own] = plan.stacks;
    if (own !== undefined) note?.(outcomeOfPlan(own, command));
    const gone = removedBy(plan).length;
    if (gone > 0) ctx.log.info(`Retention: ${counted(gone, 'snapshot')} forgotten`);
  } catch (error) {
    const { message, hint } = toTarsError(error, 'Unexpected failure');
    note?.(outcomeOfFailure(message, last, command));
    ctx.log.warn(
      `The backup is complete, but old snapshots could not be forgotten: ${message}${hint === undefined ? '' : `. ${hint}`}`,
    );
  }
}
