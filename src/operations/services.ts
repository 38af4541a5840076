import { throwIfAborted } from '../model/abort.ts';
import { formatMs } from '../model/duration.ts';
import { messageOf, TarsError, type ErrorCode } from '../model/errors.ts';
import type { Component } from '../ports/component.ts';
import type { OperationContext } from '../ports/context.ts';
import type { Runtime, Service } from '../ports/runtime.ts';

/** How long a store may take to answer after its start, in milliseconds. */
const readyTimeoutMs = 120_000;
const readyPollMs = 200;
/** How often a store that does not answer is looked at: is it still there to wait for? */
const lookEveryMs = 2000;
/** What a store answers, or tars finds, that no waiting changes. */
const incurable: ReadonlySet<ErrorCode> = new Set(['access-denied', 'configuration', 'unsupported-version']);

/** Services in an order in which each comes after those it depends on. @throws TarsError for a cycle */
export function startOrder(services: readonly Service[]): readonly Service[] {
  const byName = new Map(services.map((service) => [service.name, service]));
  const ordered = new Set<Service>();
  const visit = (service: Service, path: readonly string[]): void => {
    if (ordered.has(service)) return;
    if (path.includes(service.name)) {
      throw new TarsError(
        'configuration',
        `Services depend on each other in a loop: ${[...path, service.name].join(' -> ')}`,
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
 * @throws TarsError as it is, when waiting cannot help, such as a refused password
 * @throws TarsError `timeout` with the last refusal as its cause
 * @throws TarsError `service-unavailable` when its service has stopped again
 */
export async function waitReady(
  component: Component,
  runtime: Runtime,
  ctx: OperationContext,
): Promise<void> {
  const deadlineMs = ctx.clock.monotonicMs() + readyTimeoutMs;
  let lookMs = ctx.clock.monotonicMs() + lookEveryMs;
  for (;;) {
    try {
      await component.ready(ctx);
      return;
    } catch (cause) {
      throwIfAborted(ctx.signal);
      if (cause instanceof TarsError && incurable.has(cause.code)) throw cause;
      const detail = messageOf(cause);
      const { service = '' } = component;
      const told = { hint: 'Read the log of its service.', context: { service }, cause };
      const nowMs = ctx.clock.monotonicMs();
      if (nowMs >= deadlineMs) {
        const message = `${component.name} was not ready within ${formatMs(readyTimeoutMs)}: ${detail}`;
        throw new TarsError('timeout', message, told);
      }
      if (nowMs >= lookMs) {
        lookMs = nowMs + lookEveryMs;
        if (await hasStopped(component.service, runtime, ctx)) {
          const message = `${component.name} has stopped again after its start: ${detail}`;
          throw new TarsError('service-unavailable', message, told);
        }
      }
      await ctx.clock.sleep(readyPollMs, ctx.signal);
    }
  }
}

async function hasStopped(
  service: string | undefined,
  runtime: Runtime,
  ctx: OperationContext,
): Promise<boolean> {
  const found = (await runtime.discover(ctx)).find(({ name }) => name === service);
  const isMissing = service !== undefined && (found === undefined || found.missing === true);
  return isMissing || found?.state === 'stopped';
}

/** Starts those of `names` that do not run, dependencies first. The first that does not start ends it. */
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

/** A service that ran before and could not be started again. */
interface StartFailure {
  readonly service: string;
  readonly message: string;
}

/**
 * {@link startServices} for putting things back: one that does not start keeps no other down. Never throws. Give it a fresh signal,
 * so that an interrupted run leaves no service down.
 */
export async function startAgain(
  names: readonly string[],
  runtime: Runtime,
  ctx: OperationContext,
): Promise<readonly StartFailure[]> {
  if (names.length === 0) return [];
  const failures: StartFailure[] = [];
  const failed = (service: string, error: unknown): void => {
    failures.push({ service, message: messageOf(error) });
  };
  let ordered: readonly string[];
  try {
    ordered = startOrder(await runtime.discover(ctx)).map(({ name }) => name);
  } catch (error) {
    for (const name of names) failed(name, error);
    return failures;
  }
  for (const name of ordered.filter((service) => names.includes(service))) {
    try {
      await startServices(new Set([name]), runtime, ctx);
    } catch (error) {
      failed(name, error);
    }
  }
  return failures;
}

/** Stops those of `names` that run, dependents first. @throws TarsError when one does not stop */
export async function stopServices(
  names: ReadonlySet<string>,
  runtime: Runtime,
  ctx: OperationContext,
): Promise<void> {
  const running = startOrder(await runtime.discover(ctx)).filter(
    ({ name, state }) => names.has(name) && state !== 'stopped',
  );
  for (const { name } of [...running].reverse()) {
    ctx.log.info(`Stopping ${name}`);
    await runtime.stop(name, ctx);
  }
}
