import type { ComponentManifest } from '../../model/manifest.ts';
import type { RestoreOptions } from '../../model/restore-plan.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { Component, PlannedRestore } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { singleUse } from './single-use.ts';

/** A component at one moment, and where it was then. */
export interface FoundComponent {
  readonly component: Component;
  /** Equal as long as a plan made for the component can be carried out by it. */
  readonly where: string;
}

/**
 * Plans a restore of a component that may move before it is staged. The plan that is shown is the one that is staged
 * while the component stays where it is; one that has moved is planned again there, and what is new in that plan is
 * logged.
 */
export async function planWhereFound(
  find: (ctx: OperationContext) => Promise<FoundComponent>,
  from: ComponentManifest,
  options: RestoreOptions,
  ctx: OperationContext,
  source: ArtifactSource,
): Promise<PlannedRestore> {
  const { component, where } = await find(ctx);
  const planned = await component.planRestore(from, options, ctx, source);
  return singleUse({ plan: planned.plan, details: where }, async (before, stageSource, stageCtx) => {
    const now = await find(stageCtx);
    if (now.where === before) return planned.stage(stageSource, stageCtx);
    const { name } = now.component;
    stageCtx.log.info(`${name} has moved since its restore was planned, so the restore is planned again`);
    const again = await now.component.planRestore(from, options, stageCtx, stageSource);
    for (const warning of again.plan.warnings)
      if (!planned.plan.warnings.includes(warning)) stageCtx.log.warn(warning);
    return again.stage(stageSource, stageCtx);
  });
}
