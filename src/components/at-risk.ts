import type { Component } from '../ports/component.ts';

/** A component whose data is captured and may be lost at any time all the same: each look and each backup says so. */
export function createAtRiskComponent(base: Component, warning: string): Component {
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
  };
}

/** Components may be instances of a class, whose methods a spread would lose. */
function delegating(base: Component): Component {
  const { name, kind, service } = base;
  return {
    ...{ name, kind, service },
    probe: (ctx) => base.probe(ctx),
    places: async (ctx) => (await base.places?.(ctx)) ?? [],
    leftovers: async (ctx) => (await base.leftovers?.(ctx)) ?? [],
    leftOut: async (ctx) => (await base.leftOut?.(ctx)) ?? [],
    ready: (ctx) => base.ready(ctx),
    prepare: (ctx) => base.prepare(ctx),
    planRestore: (from, options, ctx, source) => base.planRestore(from, options, ctx, source),
    stage: (plan, source, ctx) => base.stage(plan, source, ctx),
    removeStaged: (restoreId, ctx) => base.removeStaged(restoreId, ctx),
    generation: (record) => base.generation(record),
    verify: (from, ctx, source) => base.verify(from, ctx, source),
  };
}
