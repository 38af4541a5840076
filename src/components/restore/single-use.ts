import { TarsError } from '../../model/errors.ts';
import type { RestorePlan } from '../../model/restore-plan.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { PlannedRestore, Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';

/** What a kind decided about one restore. */
export interface Decision<Details> {
  /** What is shown. */
  readonly plan: RestorePlan;
  /** What its stage works from. */
  readonly details: Details;
}

/** A decision with what carries it out. It can be staged once, whether that succeeds or not. */
export function singleUse<Details>(
  { plan, details }: Decision<Details>,
  stage: (details: Details, source: ArtifactSource, ctx: OperationContext) => Promise<Staged>,
): PlannedRestore {
  let isUsed = false;
  return {
    plan,
    async stage(source, ctx) {
      if (isUsed) {
        throw new TarsError('internal', `The plan to restore ${plan.component} was used before`, {
          hint: 'Plan the restore again.',
        });
      }
      isUsed = true;
      return stage(details, source, ctx);
    },
  };
}
