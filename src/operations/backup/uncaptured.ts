import { throwIfAborted } from '../../model/abort.ts';
import { toTarsError } from '../../model/errors.ts';
import type { NotCaptured } from '../../model/manifest.ts';
import type { Component } from '../../ports/component.ts';
import { coveredPaths, isWithin, withoutCaptured, type CapturedPlace } from '../../model/captured-place.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Runtime, ServiceMount, UnusedVolume } from '../../ports/runtime.ts';

/**
 * Every mount of the services that no component captures, in the order of services and paths, then the volumes that no
 * service has.
 */
export async function uncapturedMounts(
  { components, runtime }: { readonly components: readonly Component[]; readonly runtime: Runtime },
  ctx: OperationContext,
): Promise<readonly NotCaptured[]> {
  try {
    const mounts = await runtime.mounts(ctx);
    const unused = (await runtime.unusedVolumes?.(ctx)) ?? [];
    if (mounts.length + unused.length === 0) return [];
    const places = (await Promise.all(components.map((component) => placesOf(component, ctx)))).flat();
    const covered = places.flatMap((place) => coveredPaths(place, mounts));
    const idle = unused.filter(({ path }) => !covered.some((captured) => isWithin(path, captured)));
    return [
      ...(await describeAll(withoutCaptured(mounts, places), ctx)),
      ...(await describeUnused(idle, ctx)),
    ];
  } catch (error) {
    throwIfAborted(ctx.signal, error);
    const { message } = toTarsError(error, 'The mounts could not be listed');
    ctx.log.warn(`It is unknown what the services keep outside the components: ${message}`);
    return [{ subject: unknownMounts, reason: `not known: ${message}` }];
  }
}

const unknownMounts = 'mounts of the services';

/** Whether it only says that nobody knows what is not captured. */
export const isUnknown = ({ subject }: NotCaptured): boolean => subject === unknownMounts;

async function describeUnused(
  volumes: readonly UnusedVolume[],
  ctx: OperationContext,
): Promise<readonly NotCaptured[]> {
  return Promise.all(
    volumes.map(async ({ name, measure }) => {
      const sizeBytes = await measure(ctx);
      return {
        subject: `volume ${name}`,
        reason: 'a volume of the project that no container has, and no component captures',
        ...(sizeBytes === undefined ? {} : { sizeBytes }),
      };
    }),
  );
}

/** What lies in the components' places and is left out, as tars needs it itself. */
export async function leftOutPlaces(
  components: readonly Component[],
  ctx: OperationContext,
): Promise<readonly NotCaptured[]> {
  const places = await Promise.all(
    components.map((component) =>
      // Where its data is cannot be told: that is its failure, reported as such.
      Promise.resolve(component.leftOut?.(ctx)).catch(() => undefined),
    ),
  );
  return places.flatMap((place) => place ?? []);
}

/** A component that cannot say where its data is captures none: that is its failure, reported as such. */
async function placesOf(component: Component, ctx: OperationContext): Promise<readonly CapturedPlace[]> {
  try {
    return (await component.places?.(ctx)) ?? [];
  } catch {
    return [];
  }
}

/** The mounts in which a component keeps its data. */
export async function mountsOfComponent(
  component: Component,
  mounts: readonly ServiceMount[],
  ctx: OperationContext,
): Promise<readonly ServiceMount[]> {
  const places = await placesOf(component, ctx);
  const paths = places.flatMap((place) => coveredPaths(place, mounts));
  return mounts.filter(({ service, path }) => service === component.service && paths.includes(path));
}

async function describeAll(
  mounts: readonly ServiceMount[],
  ctx: OperationContext,
): Promise<readonly NotCaptured[]> {
  const described: NotCaptured[] = [];
  for (const mount of mounts) {
    const { service, type, source, destination } = mount;
    const sizeBytes = await mount.measure(ctx);
    described.push({
      subject: `${service}:${destination}`,
      reason: reasonOf(mount),
      mount: { service, type, source, destination },
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
    });
  }
  return described;
}

function reasonOf({ type, source }: ServiceMount): string {
  const what = { volume: `volume ${source}`, bind: `bind mount of ${source}`, other: `mount of ${source}` };
  return `${what[type]}, which no component captures`;
}
