import { basename, isAbsolute, relative } from 'node:path';
import { isWithin } from '../../../model/captured-place.ts';
import { componentName } from '../../../model/component-name.ts';
import type { ProjectMount } from '../project/mounts.ts';

/** What the services of a project have at one place of the machine, however many of them and at however many paths. */
export interface StatePlace {
  /** Of the component that captures it: it follows from the place alone, so that it stays the same. */
  readonly name: string;
  /** Where its files are on the services' machine. */
  readonly path: string;
  readonly type: ProjectMount['type'];
  /** The volume's name, or the path. */
  readonly source: string;
  /** The mount that shows all of it. */
  readonly shownBy: ProjectMount;
  /** Every mount of it or of something in it, {@link shownBy} first. */
  readonly mounts: readonly ProjectMount[];
}

/** What names of places are derived from. */
interface PlaceOrigin {
  readonly project: string;
  /** The project's directory on this machine, where it is known. */
  readonly directory: string | undefined;
  /** Services that have ended: their containers may be removed at any time. */
  readonly ended?: ReadonlySet<string>;
}

/** The places that `mounts` show; two mounts are of one place where they lead to the same path. */
export function placesOf(mounts: readonly ProjectMount[], origin: PlaceOrigin): readonly StatePlace[] {
  const byPath = Map.groupBy(mounts, ({ path }) => path);
  return [...byPath].flatMap(([path, of]) => {
    const [shownBy, ...others] = [...of].sort(byUse(origin.ended ?? new Set()));
    if (shownBy === undefined) return [];
    const { type, source } = shownBy;
    return [{ name: nameOf(shownBy, origin), path, type, source, shownBy, mounts: [shownBy, ...others] }];
  });
}

/** Places inside one another are one: the outermost, with the mounts of all. */
export function outermost(places: readonly StatePlace[]): readonly StatePlace[] {
  const isInner = ({ path }: StatePlace): boolean =>
    places.some((other) => other.path !== path && isWithin(path, other.path));
  return places
    .filter((place) => !isInner(place))
    .map((place) => {
      const inner = places.filter(({ path }) => path !== place.path && isWithin(path, place.path));
      return { ...place, mounts: [...place.mounts, ...inner.flatMap(({ mounts }) => mounts)] };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * A service that stays comes first, of these one that writes to it, then the order of names, so that the choice stays the
 * same.
 */
function byUse(ended: ReadonlySet<string>): (a: ProjectMount, b: ProjectMount) => number {
  const key = ({ service, destination, readOnly }: ProjectMount): string =>
    `${ended.has(service) ? 1 : 0}${readOnly ? 1 : 0}${service}\0${destination}`;
  return (a, b) => (key(a) < key(b) ? -1 : 1);
}

/** Whether nobody has named a volume: then the Engine does, so. */
export const isAnonymous = (volume: string): boolean => /^[0-9a-f]{64}$/.test(volume);

function nameOf({ type, source, service, destination }: ProjectMount, origin: PlaceOrigin): string {
  if (type === 'volume' && isAnonymous(source)) return componentName(`${service}-${basename(destination)}`);
  if (type === 'volume') {
    const own = `${origin.project}_`;
    return componentName(source.startsWith(own) ? source.slice(own.length) : source);
  }
  const way = origin.directory === undefined ? source : relative(origin.directory, source);
  if (way === '') return 'project';
  return componentName(way.startsWith('..') || isAbsolute(way) ? source : way);
}
