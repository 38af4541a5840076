import { TarsError } from '../model/errors.ts';
import type { Component } from '../ports/component.ts';
import type { OperationContext } from '../ports/context.ts';
import type { Runtime, Service } from '../ports/runtime.ts';

/** How long a store may take to answer after its start, in milliseconds. */
const readyTimeoutMs = 120_000;
const readyPollMs = 200;

/** Services in an order in which each comes after those it depends on. @throws TarsError for a cycle */
export function startOrder(services: readonly Service[]): readonly Service[] {
  const byName = new Map(services.map((service) => [service.name, service]));
  const ordered = new Set<Service>();
  const visit = (service: Service, path: readonly string[]): void => {
    if (ordered.has(service)) return;
    if (path.includes(service.name)) {
      throw new TarsError(
        'configuration',
        `Services depend on each other in a circle: ${[...path, service.name].join(' -> ')}`,
      );
    }
    for (const name of service.dependsOn) {
      const dependency = byName.get(name);
      if (dependency !== undefined) visit(dependency, [...path, service.name]);
    }
    ordered.add(service);
  };
  for (const service of services) visit(service, []);
  return [...ordered];
}

/** Everything that runs and depends, directly or not, on one of `names`. */
export function dependentsOf(names: ReadonlySet<string>, services: readonly Service[]): ReadonlySet<string> {
  const affected = new Set<string>();
  for (const service of startOrder(services)) {
    if (service.dependsOn.some((name) => names.has(name) || affected.has(name))) affected.add(service.name);
  }
  return affected;
}

/**
 * Polls the component until it answers.
 * @throws TarsError `timeout` with the last refusal as its cause
 */
export async function waitReady(component: Component, ctx: OperationContext): Promise<void> {
  const deadlineMs = ctx.clock.monotonicMs() + readyTimeoutMs;
  for (;;) {
    try {
      await component.ready(ctx);
      return;
    } catch (cause) {
      ctx.signal.throwIfAborted();
      if (ctx.clock.monotonicMs() >= deadlineMs) {
        const detail = cause instanceof Error ? cause.message : String(cause);
        throw new TarsError(
          'timeout',
          `${component.name} was not ready within ${readyTimeoutMs} ms: ${detail}`,
          {
            hint: 'Look into the log of its service.',
            cause,
          },
        );
      }
      await ctx.clock.sleep(readyPollMs, ctx.signal);
    }
  }
}

/**
 * Starts those of `names` that do not run, dependencies first. Takes a fresh signal when called to put things
 * back, so that an interrupted run leaves no service down.
 */
export async function startServices(
  names: ReadonlySet<string>,
  runtime: Runtime,
  ctx: OperationContext,
): Promise<void> {
  for (const service of startOrder(await runtime.discover(ctx))) {
    if (names.has(service.name) && service.state !== 'running') {
      ctx.log.info(`Starting ${service.name}`);
      await runtime.start(service.name, ctx);
    }
  }
}
