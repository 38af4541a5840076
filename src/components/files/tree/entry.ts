import type { BigIntStats } from 'node:fs';
import { isMissing } from '../../../disk/is-there.ts';
import { wasReplaced } from '../../../disk/open-directory.ts';
import { hasErrno } from '../../../model/errors.ts';
import type { ArtifactAttributes, FileIdentity, SpecialFile } from '../../../ports/artifacts.ts';
import { attributesOf, identityOf } from '../../paths/file-bytes.ts';
import { attributesAt } from './attributes.ts';
import type { WalkStep } from './walk.ts';

interface Named {
  /** Relative to the tree; empty for its own directory. */
  readonly path: string;
  readonly attributes: ArtifactAttributes;
}

/** A regular file, with what tells it unchanged. */
export interface FileEntry extends Named {
  readonly type: 'file';
  readonly identity: FileIdentity;
  /** What it takes on a disk: holes take no space, nor will they. */
  readonly diskBytes: number;
}

/** What a capture records of one entry of a tree. */
export type TreeEntry =
  | FileEntry
  | ({ readonly type: 'directory' } & Named)
  | ({ readonly type: 'symlink'; readonly target: string } & Named)
  | ({ readonly type: 'special'; readonly file: SpecialFile } & Named);

/** Something live. */
export type LiveStep = Exclude<WalkStep, { kind: 'leave' }>;

/** What was there when its directory was read, and is no more, or is something else. */
export const hasVanished = (error: unknown): boolean =>
  isMissing(error) || hasErrno(error, 'ESTALE') || wasReplaced(error);

/**
 * Everything of an entry but a file's bytes. What cannot be read of the attributes is missing; what can is kept.
 * @returns undefined for what is gone by now
 */
export function entryOf(step: LiveStep, onFailure: (error: unknown) => void): TreeEntry | undefined {
  const { path, stats } = step;
  const attributes = readAttributes(step, onFailure);
  if (step.kind === 'enter') return { type: 'directory', path, attributes };
  if (stats.isFile())
    return { type: 'file', path, attributes, identity: fileIdentity(stats), diskBytes: diskBytesOf(stats) };
  if (!stats.isSymbolicLink()) return { type: 'special', path, attributes, file: specialFile(stats) };
  try {
    return { type: 'symlink', path, attributes, target: step.parent.readlink(step.name) };
  } catch (error) {
    if (!hasVanished(error) && !hasErrno(error, 'EINVAL')) onFailure(error);
    return undefined;
  }
}

function readAttributes(step: LiveStep, onFailure: (error: unknown) => void): ArtifactAttributes {
  try {
    const at = step.kind === 'enter' ? step.directory.at('.') : step.parent.at(step.name);
    return attributesAt(at, step.stats);
  } catch (error) {
    if (!hasVanished(error)) onFailure(error);
    return attributesOf(step.stats);
  }
}

/** What tells a file of a tree unchanged, whatever names it has. */
export const fileIdentity = (stats: BigIntStats): FileIdentity => ({
  ...identityOf(stats),
  ...{ deviceId: stats.dev, links: Number(stats.nlink) },
});

/** See {@link FileEntry.diskBytes}. */
export const diskBytesOf = ({ size, blocks }: Pick<BigIntStats, 'size' | 'blocks'>): number =>
  Math.min(Number(size), Number(blocks) * 512);

function specialFile(stats: BigIntStats): SpecialFile {
  if (stats.isFIFO()) return { type: 'fifo' };
  if (stats.isSocket()) return { type: 'socket' };
  return { type: stats.isCharacterDevice() ? 'character-device' : 'block-device', device: stats.rdev };
}
