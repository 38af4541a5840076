import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { throughLinks } from './real-path.ts';
import { decodeMountPath } from './mounts.ts';

/**
 * How one place lies to another, by what directories are and not by how they are spelt: links, `..` and bind mounts are
 * seen through. Places need not exist.
 */

/** One directory on the way from a place up to the root. */
interface Step {
  /** Device and inode. */
  readonly key: string;
  /** From there down to the place; empty for the place itself. */
  readonly way: string;
}

/** Looks at each place once, however many it is compared with. For one decision: links and mounts may change after it. */
export class PlaceLookup {
  readonly #nearest = new Map<string, Promise<Step | undefined>>();
  readonly #stepsOf = new Map<string, Promise<readonly Step[]>>();

  /**
   * The ways from the directory `outer` down to `inner`, `/`-separated: an empty one when it is the same place, none
   * when it lies elsewhere, several where a bind mount shows it at several places below.
   */
  async waysDown(outer: string, inner: string): Promise<readonly string[]> {
    const nearest = await once(this.#nearest, outer, nearestOf);
    if (nearest === undefined) return [];
    const ways = new Set<string>();
    for (const { key, way } of await once(this.#stepsOf, inner, allStepsUp)) {
      const below = key === nearest.key ? wayBelow(nearest.way, way) : undefined;
      if (below !== undefined) ways.add(below);
    }
    return [...ways].sort();
  }
}

/** As {@link PlaceLookup.waysDown}, for two places. */
export const waysDown = (outer: string, inner: string): Promise<readonly string[]> =>
  new PlaceLookup().waysDown(outer, inner);

function once<T>(
  known: Map<string, Promise<T>>,
  path: string,
  look: (path: string) => Promise<T>,
): Promise<T> {
  const found = known.get(path) ?? look(path);
  known.set(path, found);
  return found;
}

/** The nearest directory that exists. */
async function nearestOf(path: string): Promise<Step | undefined> {
  const [nearest] = await stepsUp(await throughLinks(path));
  return nearest;
}

/** From the place, under every path that shows it. */
async function allStepsUp(path: string): Promise<readonly Step[]> {
  const steps: Step[] = [];
  for (const spelling of await spellings(await throughLinks(path))) steps.push(...(await stepsUp(spelling)));
  return steps;
}

/** What is left of `way` below `base`; undefined when it does not lead there. */
function wayBelow(base: string, way: string): string | undefined {
  if (base === '' || base === way) return base === way ? '' : way;
  return way.startsWith(`${base}/`) ? way.slice(base.length + 1) : undefined;
}

/** The directories that exist from `path` up to the root, the nearest first. */
async function stepsUp(path: string): Promise<readonly Step[]> {
  const steps: Step[] = [];
  let way = '';
  for (let at = path; ; at = dirname(at)) {
    const key = await keyOf(at);
    if (key !== undefined) steps.push({ key, way });
    if (at === dirname(at)) return steps;
    way = way === '' ? basename(at) : `${basename(at)}/${way}`;
  }
}

async function keyOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** A row of proc_pid_mountinfo(5). */
interface Mount {
  readonly device: string;
  /** The directory of the file system that is mounted. */
  readonly root: string;
  readonly point: string;
}

/** Every path under which the place can be seen: a bind mount shows a part of a file system once more. */
async function spellings(path: string): Promise<readonly string[]> {
  const mounts = await readMounts();
  const own = mounts
    .filter(({ point }) => isWithin(path, point))
    .reduce<Mount | undefined>(
      (best, mount) => (best && best.point.length > mount.point.length ? best : mount),
      undefined,
    );
  if (own === undefined) return [path];
  const onDisk = join(own.root, path.slice(own.point.length));
  const others = mounts
    .filter(({ device, root }) => device === own.device && isWithin(onDisk, root))
    .map(({ root, point }) => join(point, root === '/' ? onDisk : onDisk.slice(root.length)));
  return [...new Set([path, ...others])];
}

const isWithin = (path: string, directory: string): boolean =>
  path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`);

async function readMounts(): Promise<readonly Mount[]> {
  const text = await readFile('/proc/self/mountinfo', 'latin1').catch(() => '');
  return text.split('\n').flatMap((line) => {
    const [, , device, root, point] = line.split(' ');
    if (device === undefined || root === undefined || point === undefined) return [];
    return [{ device, root: decodeMountPath(root), point: decodeMountPath(point) }];
  });
}
