import type { BigIntStats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { realPathIfThere } from '../../../disk/real-path.ts';
import { mountsBelow } from '../../../disk/mounts.ts';
import type { OpenedPath } from '../../../disk/open-path.ts';
import { TarsError } from '../../../model/errors.ts';
import { Exclusions } from './exclusions.ts';

/** One directory that is captured. */
export interface Tree {
  /** Absolute, as configured: of this machine, or in the container of its service. */
  readonly path: string;
  /** Where that is on this machine. */
  readonly live: string;
  /** Patterns of what is left out; see exclusions.ts. */
  readonly exclude: readonly string[];
  /** What is not the tree's own, relative to it: neither captured nor exchanged, whatever a snapshot holds. */
  readonly keepOut?: readonly string[];
  /** Absolute paths of files that are not the tree's own under any of their names. */
  readonly foreignFiles?: readonly string[];
}

/** Why something in a tree does not belong to it. */
export type OutsideReason =
  /** A pattern under `exclude:`. */
  | 'excluded'
  /** Something of tars lies there, or another tree. */
  | 'kept-out'
  /** Another file system, or one more view of this one. */
  | 'mounted'
  /** What another restore works with. */
  | 'restore'
  /** It was there when the snapshot was taken, which has it not. */
  | 'not-captured';

/** What restores of this place, or of another one in it, stage and set aside: `NAME.tars-new-ID`, `NAME.tars-prev-ID`. */
export const ownName = /\.tars-(new|prev)-[a-z0-9]+$/;

/** What is left out of a tree: as configured, and as the snapshot says that is restored. */
interface TreePatterns {
  readonly exclude: readonly string[];
  readonly formerExclude?: readonly string[];
  /** Paths that the snapshot lacks because they could not be captured. */
  readonly notCaptured?: readonly string[];
  readonly foreignFiles?: readonly string[] | undefined;
}

/** What of a directory on this machine belongs to a tree, as things are now. */
export class TreeScope {
  readonly exclusions: Exclusions;
  /** Of a snapshot that is restored. */
  readonly #formerExclusions: Exclusions;
  readonly #named: ReadonlyMap<string, OutsideReason>;
  readonly #device: bigint;
  /** Device and inode of files that have more names. */
  readonly #foreign: ReadonlySet<string>;

  private constructor(
    patterns: TreePatterns,
    named: ReadonlyMap<string, OutsideReason>,
    foreign: ReadonlySet<string>,
    device: bigint,
  ) {
    this.#foreign = foreign;
    this.exclusions = new Exclusions(patterns.exclude);
    this.#formerExclusions = new Exclusions(patterns.formerExclude ?? []);
    this.#named = named;
    this.#device = device;
  }

  /**
   * @param keepOut absolute paths of what belongs to something else
   * @throws TarsError when all of the tree does
   */
  static async of(
    { path, directory }: OpenedPath,
    patterns: TreePatterns,
    keepOut: readonly string[],
  ): Promise<TreeScope> {
    const above = path === '/' ? '/' : `${path}/`;
    const holder = keepOut.find((kept) => kept === path || path.startsWith(kept === '/' ? '/' : `${kept}/`));
    if (holder !== undefined) {
      throw new TarsError(
        'configuration',
        `${path} cannot be a directory of this component: it is ${holder} or lies in it, and no component may touch that`,
        { hint: 'Move one of the two, or remove the directory from tars.yaml.' },
      );
    }
    const keptOut = keepOut.filter((kept) => kept.startsWith(above)).map((kept) => kept.slice(above.length));
    const named = new Map<string, OutsideReason>([
      ...(patterns.notCaptured ?? []).map((name) => [name, 'not-captured'] as const),
      ...[...(await mountsBelow(path))].map((name) => [name, 'mounted'] as const),
      ...keptOut.map((name) => [name, 'kept-out'] as const),
    ]);
    return new TreeScope(
      patterns,
      named,
      await linkedFiles(patterns.foreignFiles ?? []),
      directory.stat().dev,
    );
  }

  /** @param path relative to the tree, not empty; to be asked of parents before their children */
  outside(path: string, stats: Pick<BigIntStats, 'dev' | 'ino' | 'isDirectory'>): OutsideReason | undefined {
    const named = this.#named.get(path);
    if (named === undefined && ownName.test(path)) return 'restore';
    if (named === 'kept-out' || this.#foreign.has(`${stats.dev}:${stats.ino}`)) return 'kept-out';
    const isDirectory = stats.isDirectory();
    if (this.exclusions.excludes(path, isDirectory) || this.#formerExclusions.excludes(path, isDirectory))
      return 'excluded';
    return stats.dev === this.#device ? named : 'mounted';
  }

  /** Whether there may be something outside below `path`, so that it must be looked for there. */
  mayReach(path: string): boolean {
    if (!this.exclusions.isEmpty || !this.#formerExclusions.isEmpty || this.#foreign.size > 0) return true;
    return path === ''
      ? this.#named.size > 0
      : [...this.#named.keys()].some((name) => name.startsWith(`${path}/`));
  }
}

/** A hard link shows a file at a place that its path does not tell. What is not there has no other name. */
async function linkedFiles(paths: readonly string[]): Promise<ReadonlySet<string>> {
  const found = await Promise.all(paths.map((path) => stat(path, { bigint: true }).catch(() => undefined)));
  return new Set(
    found.flatMap((stats) =>
      stats?.isFile() === true && stats.nlink > 1n ? [`${stats.dev}:${stats.ino}`] : [],
    ),
  );
}

/** What of each tree belongs to others: what is kept out of all, and the trees that lie in it. */
export async function keptOutOf(
  tree: Tree,
  trees: readonly Tree[],
  keepOut: readonly string[],
): Promise<readonly string[]> {
  const own = await realPathIfThere(tree.live);
  const others = await Promise.all(
    trees.filter((other) => other !== tree).map((other) => realPathIfThere(other.live)),
  );
  const inTree = (tree.keepOut ?? []).map((way) => join(own, way));
  return [
    ...keepOut,
    ...inTree,
    ...others.filter((other) => other.startsWith(own === '/' ? '/' : `${own}/`)),
  ];
}
