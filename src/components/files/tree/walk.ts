import type { BigIntStats } from 'node:fs';
import { OpenDirectory, wasReplaced } from '../../../disk/open-directory.ts';
import { hasErrno } from '../../../model/errors.ts';

/** Something found in a tree. What may write in the tree may have replaced it by the time it is opened. */
export type WalkStep =
  /** A directory, before what is in it; the tree's own has an empty path. It is closed after its `leave`. */
  | {
      readonly kind: 'enter';
      readonly path: string;
      readonly directory: OpenDirectory;
      readonly stats: BigIntStats;
    }
  | { readonly kind: 'leave'; readonly path: string }
  /** Anything else, to be looked at as `name` of `parent`. */
  | {
      readonly kind: 'entry';
      readonly path: string;
      readonly name: string;
      readonly parent: OpenDirectory;
      readonly stats: BigIntStats;
    };

/** What a walk asks of its caller. Paths are relative to the tree. */
export interface WalkRules {
  /** True for what is not walked, nor told of any more. */
  leaveOut(path: string, stats: BigIntStats): boolean;
  /** Called for an entry that cannot be read; the walk continues with the others. */
  onFailure(path: string, error: unknown): void;
}

interface Level {
  readonly path: string;
  readonly directory: OpenDirectory;
  /** Still to be walked, the next one last. */
  readonly names: string[];
}

/**
 * Everything at and below `root`, parents first, in byte order of names. What vanishes meanwhile is left out. Every
 * directory is opened from the one above it, so that nothing outside is seen. Holds the names of open directories only.
 */
export function* walkTree(root: OpenDirectory, rules: WalkRules): Generator<WalkStep, void, undefined> {
  const levels: Level[] = [];
  try {
    yield* enter('', root.openDirectory('.'), levels, rules);
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const name = level.names.pop();
      if (name === undefined) {
        yield { kind: 'leave', path: level.path };
        levels.pop();
        level.directory.close();
      } else yield* visit(level, name, levels, rules);
    }
  } finally {
    for (const { directory } of levels) directory.close();
  }
}

/** How often something is looked at again that was replaced between the look and its opening. */
const looksMax = 3;

function* visit(level: Level, name: string, levels: Level[], rules: WalkRules): Generator<WalkStep, void> {
  const path = level.path === '' ? name : `${level.path}/${name}`;
  for (let looks = 1; ; looks++) {
    try {
      const stats = level.directory.lstat(name);
      if (stats === undefined || rules.leaveOut(path, stats)) return;
      if (!stats.isDirectory()) {
        yield { kind: 'entry', path, name, parent: level.directory, stats };
        return;
      }
      yield* enter(path, level.directory.openDirectory(name), levels, rules);
      return;
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return;
      if (wasReplaced(error) && looks < looksMax) continue;
      rules.onFailure(path, error);
      return;
    }
  }
}

function* enter(
  path: string,
  directory: OpenDirectory,
  levels: Level[],
  rules: WalkRules,
): Generator<WalkStep, void> {
  let names: string[] = [];
  try {
    names = directory.names().reverse();
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) rules.onFailure(path, error);
  }
  levels.push({ path, directory, names });
  yield { kind: 'enter', path, directory, stats: directory.stat() };
}
