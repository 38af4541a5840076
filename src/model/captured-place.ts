import { posix } from 'node:path';

/** Files that a component captures. */
export type CapturedPlace =
  /** Everything at and below a path, as `service` sees it or as this machine does. */
  | { readonly tree: string; readonly service?: string }
  /** The directory where a store keeps its data: whatever is mounted there counts as a whole. */
  | { readonly store: string; readonly service?: string };

/** Something from outside itself that a service has at a path. */
interface MountPoint {
  readonly service: string;
  /** Where its files are on the services' machine. */
  readonly path: string;
  /** Where the service sees it. */
  readonly destination: string;
}

/** The mounts that none of `places` covers as a whole. */
export function withoutCaptured<Mount extends MountPoint>(
  mounts: readonly Mount[],
  places: readonly CapturedPlace[],
): readonly Mount[] {
  const covered = places.flatMap((place) => coveredPaths(place, mounts));
  return mounts
    .filter(({ path }) => !covered.some((captured) => isWithin(path, captured)))
    .sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

const key = ({ service, destination }: MountPoint): string => `${service}\0${destination}`;

/** Paths on the services' machine below which everything is captured. */
export function coveredPaths(place: CapturedPlace, mounts: readonly MountPoint[]): readonly string[] {
  const { service } = place;
  if ('tree' in place) {
    if (service === undefined) return [place.tree];
    return mounts.flatMap((mount) => {
      if (mount.service !== service) return [];
      if (isWithin(mount.destination, place.tree)) return [mount.path];
      // A directory below a mount is captured in place of the whole of it.
      const below = isWithin(place.tree, mount.destination);
      return below ? [posix.join(mount.path, posix.relative(mount.destination, place.tree))] : [];
    });
  }
  const at = (mount: MountPoint): string => (service === undefined ? mount.path : mount.destination);
  const [innermost] = mounts
    .filter(
      (mount) => (service === undefined || mount.service === service) && isWithin(place.store, at(mount)),
    )
    .sort((a, b) => at(b).length - at(a).length);
  return innermost === undefined ? [] : [innermost.path];
}

/** Whether `path` is `directory` or lies below it. */
export const isWithin = (path: string, directory: string): boolean =>
  directory !== '' && (path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`));
