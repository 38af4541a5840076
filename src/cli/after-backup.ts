import { counted } from '../model/plural.ts';
import { toTarsError } from '../model/errors.ts';
import { executeForget, planForget, removedBy } from '../operations/forget.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotShelf } from '../ports/snapshot-shelf.ts';
import type { Settings } from '../settings/load.ts';
import { retentionRules, type RuleSettings } from '../settings/retention.ts';
import { heldBackLine } from './verbs/forget.ts';

/**
 * Forgets what `rules` do not keep of the stack, or without them what `retention:` does not, when it says that backups
 * do so. The backup is done and good
 * whatever happens here, so that what fails is a warning.
 */
export async function forgetAfterBackup(
  shelf: SnapshotShelf,
  { stack, retention }: Pick<Settings, 'stack' | 'retention'>,
  kind: 'repository' | 'archives',
  rules: RuleSettings | undefined,
  ctx: OperationContext,
): Promise<void> {
  const configured = kind === 'archives' ? retention?.archives : retention;
  const wanted = rules ?? (retention?.after_backup === true ? configured : undefined);
  if (wanted === undefined) return;
  try {
    const request = { rules: retentionRules(wanted), stack, allowLast: false, allowShrunk: false };
    const plan = await planForget(shelf, request, ctx);
    for (const held of plan.stacks) if (held.heldBack.length > 0) ctx.log.warn(heldBackLine(held));
    await executeForget(shelf, plan, ctx);
    const gone = removedBy(plan).length;
    if (gone > 0) ctx.log.info(`Retention: ${counted(gone, 'snapshot')} forgotten`);
  } catch (error) {
    const { message, hint } = toTarsError(error, 'Unexpected failure');
    ctx.log.warn(
      `The backup is complete, but old ones could not be forgotten: ${message}${hint === undefined ? '' : `. ${hint}`}`,
    );
  }
}
