import { throwIfAborted } from '../model/abort.ts';
import { composeStack, hasPendingRestores } from '../composition/index.ts';
import { toTarsError } from '../model/errors.ts';
import { recoverInterrupted } from '../operations/restore/recover.ts';
import type { OperationContext } from '../ports/context.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';

/**
 * A restore that was killed may have left services down: the next run, whatever its verb, puts that right before its
 * own work. What stands in the way is a warning here; verbs that work on the live stack refuse by themselves.
 */
export async function recoverUnfinished(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<void> {
  try {
    if (!(await hasPendingRestores(settings))) return;
    const stack = await composeStack(settings, { includeModels: false }, env);
    await recoverInterrupted({ ...stack, stack: stack.name }, stack.journal, ctx);
  } catch (error) {
    throwIfAborted(ctx.signal);
    const { message, hint } = toTarsError(error, 'A restore that was cut off could not be recovered');
    ctx.log.warn(hint === undefined ? message : `${message}. ${hint}`);
  }
}
