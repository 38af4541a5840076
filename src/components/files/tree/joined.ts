import { encodeLossless } from '../../../model/byte-text.ts';
import type { ArtifactEntry, ArtifactSource } from '../../../ports/artifacts.ts';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import { walkTree, type WalkRules, type WalkStep } from './walk.ts';

/** Something live. */
export type LiveEntry = Exclude<WalkStep, { kind: 'leave' }>;

/** What a snapshot and the live directory have at one path, relative to the tree. */
export interface JoinedEntry {
  readonly path: string;
  readonly captured: ArtifactEntry | undefined;
  readonly live: LiveEntry | undefined;
}

/** Where a tree lies in a snapshot. */
export interface SnapshotFolder {
  readonly source: ArtifactSource;
  readonly prefix: string;
  /** Folders in it of other trees. */
  readonly others: readonly string[];
}

/** All paths of a tree, in the order in which both sides have them; neither is held. */
export async function* joinTree(
  folder: SnapshotFolder,
  live: OpenDirectory | undefined,
  rules: WalkRules,
  signal: AbortSignal,
): AsyncGenerator<JoinedEntry, void, undefined> {
  const steps = live === undefined ? undefined : liveEntries(live, rules);
  try {
    let step = steps?.next().value;
    for await (const captured of entriesOf(folder, signal)) {
      const path = captured.path.slice(folder.prefix.length + 1);
      for (; step !== undefined && comparePaths(step.path, path) < 0; step = steps?.next().value)
        yield { path: step.path, captured: undefined, live: step };
      const same = step?.path === path ? step : undefined;
      yield { path, captured, live: same };
      if (same !== undefined) step = steps?.next().value;
    }
    for (; step !== undefined; step = steps?.next().value)
      yield { path: step.path, captured: undefined, live: step };
  } finally {
    steps?.return(undefined);
  }
}

/** Entries of the tree itself. */
export async function* entriesOf(
  { source, prefix, others }: SnapshotFolder,
  signal: AbortSignal,
): AsyncGenerator<ArtifactEntry, void, undefined> {
  for await (const entry of source.entries(prefix, signal)) {
    if (!others.some((other) => entry.path === other || entry.path.startsWith(`${other}/`))) yield entry;
  }
}

function* liveEntries(live: OpenDirectory, rules: WalkRules): Generator<LiveEntry, undefined, undefined> {
  for (const step of walkTree(live, rules)) if (step.kind !== 'leave') yield step;
  return undefined;
}

/** The order of a walk: by the bytes of names, and what is in a directory right after it. */
export function comparePaths(a: string, b: string): number {
  if (a === b) return 0;
  const [aNames, bNames] = [a === '' ? [] : a.split('/'), b === '' ? [] : b.split('/')];
  for (let i = 0; i < aNames.length && i < bNames.length; i++) {
    const [aName = '', bName = ''] = [aNames[i], bNames[i]];
    if (aName !== bName) return Buffer.compare(encodeLossless(aName), encodeLossless(bName));
  }
  return aNames.length - bNames.length;
}
