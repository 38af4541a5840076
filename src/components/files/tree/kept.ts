import type { BigIntStats } from 'node:fs';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import { lstatAlong, splitPath } from './along.ts';
import type { OutsideReason, TreeScope } from './scope.ts';
import { walkTree } from './walk.ts';

/** Why something stays in place when a tree is restored. */
type KeptReason = Exclude<OutsideReason, 'restore'>;

/**
 * What stays in place when the tree is exchanged for `content`: what is mounted or kept out, and what was left out or
 * could not be captured and is not in `content` either. By path, relative to the tree.
 */
export function findKept(
  live: OpenDirectory,
  scope: TreeScope,
  content: OpenDirectory,
): ReadonlyMap<string, KeptReason> {
  const kept = new Map<string, KeptReason>();
  const isReplaced = (path: string, reason: KeptReason): boolean =>
    reason !== 'mounted' && reason !== 'kept-out' && lstatAlong(content, path) !== undefined;
  const keep = (path: string, reason: KeptReason): void => {
    if (!isReplaced(path, reason)) kept.set(path, reason);
  };
  const leaveOut = (path: string, stats: BigIntStats): boolean => {
    const reason = scope.outside(path, stats);
    // Excluded by now, and captured then: what has come into it since is in no snapshot.
    if (reason === 'excluded' && stats.isDirectory() && isReplaced(path, reason)) return false;
    if (reason !== undefined && reason !== 'restore') keep(path, reason);
    return reason !== undefined || !stats.isDirectory() || !scope.mayReach(path);
  };
  // What cannot be looked into may hold something that is nowhere else.
  const onFailure = (path: string): void => {
    if (path !== '') keep(path, 'not-captured');
  };
  if (!scope.mayReach('')) return kept;
  for (const _step of walkTree(live, { leaveOut, onFailure })) {
    // Everything is told to the rules.
  }
  return kept;
}

/** A directory that stays itself, and what of its entries stays too. */
interface StayingDirectory {
  readonly path: string;
  readonly keep: string[];
}

/** All directories on the way to what is kept, and the tree's own, parents first. */
export function directoriesAbove(kept: Iterable<string>): StayingDirectory[] {
  const directories = new Map<string, Set<string>>([['', new Set()]]);
  for (const path of kept) {
    for (let at = path; at !== '';) {
      const { above, name } = splitPath(at);
      const known = directories.get(above);
      if (known?.has(name) === true) break;
      if (known === undefined) directories.set(above, new Set([name]));
      else known.add(name);
      at = above;
    }
  }
  return [...directories]
    .map(([path, keep]) => ({ path, keep: [...keep] }))
    .sort((a, b) => depthOf(a.path) - depthOf(b.path));
}

const depthOf = (path: string): number => (path === '' ? 0 : path.split('/').length);
