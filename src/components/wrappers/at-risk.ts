import { RestoreRefusedError, type TarsError } from '../../model/errors.ts';
import type { Component } from '../../ports/component.ts';

/**
 * A component whose data is captured and may be lost at any time all the same: each look and each backup says so.
 * @param problem what is wrong with its place, and what to do about it
 */
export function createAtRiskComponent(
  base: Component,
  problem: TarsError,
  { canRestore }: { readonly canRestore: boolean },
): Component {
  const warning = `${problem.message}. ${problem.hint ?? ''}`;
  return {
    ...delegating(base),
    async probe(ctx) {
      const found = await base.probe(ctx);
      return { ...found, warnings: [warning, ...found.warnings] };
    },
    async prepare(ctx) {
      ctx.log.warn(warning);
      return base.prepare(ctx);
    },
    async planRestore(from, options, ctx, source) {
      if (canRestore) return base.planRestore(from, options, ctx, source);
      throw new RestoreRefusedError(`Cannot restore ${base.name}: ${problem.message}`, {
        hint: 'Mount a volume there in the Compose file, and let Compose create the container again (docker compose up -d). Then run the restore again.',
      });
    },
  };
}

/** A component that is captured, and not restored in place; `problem` tells why, and what to do. */
export function createCaptureOnlyComponent(base: Component, problem: RestoreRefusedError): Component {
  return { ...delegating(base), planRestore: () => Promise.reject(problem) };
}

/** Components may be instances of a class, whose methods a spread would lose. */
function delegating(base: Component): Component {
  const { name, kind, service, precaptures = false } = base;
  return {
    ...{ name, kind, service, precaptures },
    probe: (ctx) => base.probe(ctx),
    places: async (ctx) => (await base.places?.(ctx)) ?? [],
    leftovers: async (ctx) => (await base.leftovers?.(ctx)) ?? [],
    leftOut: async (ctx) => (await base.leftOut?.(ctx)) ?? [],
    ready: (ctx) => base.ready(ctx),
    prepare: (ctx) => base.prepare(ctx),
    planRestore: (from, options, ctx, source) => base.planRestore(from, options, ctx, source),
    removeStaged: (restoreId, ctx) => base.removeStaged(restoreId, ctx),
    generation: (record) => base.generation(record),
    verify: (from, ctx, source) => base.verify(from, ctx, source),
  };
}
