import type { SwapRecord } from '../../model/restore-plan.ts';
import type { Component, Generation } from '../../ports/component.ts';
import type { CapturedPlace } from '../../model/captured-place.ts';
import type { OperationContext } from '../../ports/context.ts';
import { planWhereFound } from '../restore/where-found.ts';

/** A component whose service may be elsewhere at each run. */
interface PlacedOptions {
  readonly name: string;
  readonly kind: string;
  readonly service: string;
  /** See {@link Component.precaptures}. */
  readonly precaptures?: boolean;
  /** See {@link Component.places}. */
  readonly places: (ctx: OperationContext) => Promise<readonly CapturedPlace[]>;
  /** Where its service is right now: as long as this is equal, {@link locate} gives the same component. */
  readonly where: (ctx: OperationContext) => Promise<string>;
  /**
   * The component where its service is right now.
   * @param needsService whether the caller cannot do without a running service
   * @throws ServiceUnavailableError when the service does not run and that matters
   */
  readonly locate: (needsService: boolean, ctx: OperationContext) => Promise<Component>;
}

/**
 * A component whose place changes while we work: a container has another address after each start. It is looked up
 * anew at every call.
 */
export function createPlacedComponent({
  name,
  kind,
  service,
  precaptures = false,
  places,
  where,
  locate,
}: PlacedOptions): Component {
  return {
    ...{ name, kind, service, precaptures },
    places,
    leftOut: async (ctx) => (await (await locate(false, ctx)).leftOut?.(ctx)) ?? [],
    probe: async (ctx) => (await locate(true, ctx)).probe(ctx),
    leftovers: async (ctx) => (await (await locate(false, ctx)).leftovers?.(ctx)) ?? [],
    ready: async (ctx) => (await locate(true, ctx)).ready(ctx),
    prepare: async (ctx) => (await locate(true, ctx)).prepare(ctx),
    planRestore: (...restore) =>
      planWhereFound(
        async (ctx) => ({ where: await where(ctx), component: await locate(false, ctx) }),
        ...restore,
      ),
    removeStaged: async (restoreId, ctx) => (await locate(false, ctx)).removeStaged(restoreId, ctx),
    generation: (record: SwapRecord): Generation => ({
      undo: async (ctx) => (await locate(false, ctx)).generation(record).undo(ctx),
      discardPrevious: async (ctx) => (await locate(false, ctx)).generation(record).discardPrevious(ctx),
    }),
    verify: async (from, ctx, source) => (await locate(true, ctx)).verify(from, ctx, source),
  };
}
