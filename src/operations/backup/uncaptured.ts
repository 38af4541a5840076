import { throwIfAborted } from '../../model/abort.ts';
import { toTarsError } from '../../model/errors.ts';
import type { NotCaptured } from '../../model/manifest.ts';
import type { Component } from '../../ports/component.ts';
import { coveredPaths, isWithin, withoutCaptured, type CapturedPlace } from '../../model/captured-place.ts';
import type { PlaceNote } from '../../ports/place-notes.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Runtime, ServiceMount, UnusedVolume } from '../../ports/runtime.ts';

/** Whose mounts, and what is known of some of them. */
interface UncapturedQuestion {
  readonly components: readonly Component[];
  readonly runtime: Runtime;
  readonly placeNotes?: readonly PlaceNote[] | undefined;
}

/**
 * Every mount of the services that no component captures, in the order of services and paths, then the volumes that no
 * service has.
 */
export async function uncapturedMounts(
  { components, runtime, placeNotes = [] }: UncapturedQuestion,
  ctx: OperationContext,
): Promise<readonly NotCaptured[]> {
  try {
    const mounts = await runtime.mounts(ctx);
    const unused = (await runtime.unusedVolumes?.(ctx)) ?? [];
    if (mounts.length + unused.length === 0) return [];
    const places = (await Promise.all(components.map((component) => placesOf(component, ctx)))).flat();
    const covered = places.flatMap((place) => coveredPaths(place, mounts));
    const idle = unused.filter(({ path }) => !covered.some((captured) => isWithin(path, captured)));
    const notes = new Notes(placeNotes, mounts);
    return [
      ...(await describeAll(withoutCaptured(mounts, places), notes, ctx)),
      ...(await describeUnused(idle, notes, ctx)),
    ];
  } catch (error) {
    throwIfAborted(ctx.signal, error);
    const { message } = toTarsError(error, 'The mounts could not be listed');
    ctx.log.warn(`It is unknown what the services keep outside the components: ${message}`);
    return [{ subject: unknownMounts, reason: `not known: ${message}`, status: 'missing' }];
  }
}

const unknownMounts = 'mounts of the services';

/** Whether it only says that nobody knows what is not captured. */
export const isUnknown = ({ subject }: NotCaptured): boolean => subject === unknownMounts;

/** What is known of places that no component captures. */
class Notes {
  readonly #notes: readonly { readonly note: PlaceNote; readonly paths: readonly string[] }[];

  constructor(notes: readonly PlaceNote[], mounts: readonly ServiceMount[]) {
    this.#notes = notes.map((note) => ({
      note,
      paths: 'volume' in note.place ? [] : coveredPaths(note.place, mounts),
    }));
  }

  /** Of what lies at `path`, in a volume of that name. The first one counts: it was written by a person. */
  of(path: string, volume: string | undefined): PlaceNote | undefined {
    return this.#notes.find(({ note: { place, isOfPlaceAlone }, paths }) => {
      if ('volume' in place) return place.volume === volume;
      return isOfPlaceAlone === true ? paths.includes(path) : paths.some((noted) => isWithin(path, noted));
    })?.note;
  }
}

/** Without a note nobody has said that it may be missing. */
const describedBy = (note: PlaceNote | undefined, what: string): Pick<NotCaptured, 'reason' | 'status'> =>
  note?.mayBeMissing === true
    ? { reason: note.reason, status: 'left-out' }
    : { reason: note === undefined ? what : `${what}: ${note.reason}`, status: 'missing' };

async function describeUnused(
  volumes: readonly UnusedVolume[],
  notes: Notes,
  ctx: OperationContext,
): Promise<readonly NotCaptured[]> {
  return Promise.all(
    volumes.map(async ({ name, path, measure }) => {
      const sizeBytes = await measure(ctx);
      return {
        subject: `volume ${name}`,
        ...describedBy(
          notes.of(path, name),
          'a volume of the project that no container has, and no component captures',
        ),
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
export async function placesOf(
  component: Component,
  ctx: OperationContext,
): Promise<readonly CapturedPlace[]> {
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
  notes: Notes,
  ctx: OperationContext,
): Promise<readonly NotCaptured[]> {
  const described: NotCaptured[] = [];
  for (const mount of mounts) {
    const { service, type, source, destination, path } = mount;
    const volume = type === 'volume' ? source : undefined;
    const sizeBytes = await mount.measure(ctx);
    described.push({
      subject: `${service}:${destination}`,
      ...describedBy(notes.of(path, volume), reasonOf(mount)),
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
