import { fchmodSync, fchownSync, lchownSync, type BigIntStats } from 'node:fs';
import type { OpenDirectory } from '../../../disk/open-directory.ts';
import {
  isUnsupported,
  readExtended,
  removeExtended,
  setExtended,
  setTimes,
  type SystemPath,
} from '../../../disk/posix/index.ts';
import { hasErrno } from '../../../model/errors.ts';
import type { ArtifactAttributes, ExtendedAttribute } from '../../../ports/artifacts.ts';
import { attributesOf } from '../../paths/file-bytes.ts';

/** Everything that a snapshot keeps of the entry at `at`. @throws Error of the system when its extended attributes cannot be read */
export function attributesAt(at: SystemPath, stats: BigIntStats): ArtifactAttributes {
  const extended = readExtended(at);
  return { ...attributesOf(stats), ...(extended.length === 0 ? {} : { extended }) };
}

/** Of an open directory. */
export const directoryAttributes = (directory: OpenDirectory): ArtifactAttributes =>
  attributesAt(directory.at('.'), directory.stat());

/** Told of every attribute that this user or this file system cannot set. */
export type OnUnset = (what: string) => void;

const accessAcl = 'system.posix_acl_access';
const defaultAcl = 'system.posix_acl_default';

/** Gives an open file or directory everything. @param at its path, for what takes no descriptor */
export function setOpen(
  descriptor: number,
  at: SystemPath,
  type: 'file' | 'directory',
  attributes: ArtifactAttributes,
  onUnset: OnUnset,
): void {
  const { uid, gid, mode, mtimeNs, extended = [] } = attributes;
  // A new owner takes set-user-ID and capabilities away, a mode changes an access list: hence the order.
  const isOwned = attempt('owner', onUnset, () => fchownSync(descriptor, uid, gid));
  // For another owner than meant these bits would give other rights away.
  fchmodSync(descriptor, isOwned || type === 'directory' ? mode : mode & 0o1777);
  for (const attribute of extended) {
    const isSet = attempt(attribute.name, onUnset, () => setExtended(at, attribute));
    if (!isSet && attribute.name === accessAcl) fchmodSync(descriptor, modeWithoutAcl(mode, attribute));
  }
  setTimes(at, mtimeNs, mtimeNs);
}

/** What {@link setOpen} does, also for a directory that had attributes before: those that are not wanted go. */
export function resetDirectory(
  directory: OpenDirectory,
  attributes: ArtifactAttributes,
  onUnset: OnUnset,
): void {
  const wanted = new Set(attributes.extended?.map(({ name }) => name));
  for (const { name } of readExtended(directory.at('.'))) {
    if (!wanted.has(name)) attempt(name, onUnset, () => removeExtended(directory.at('.'), name));
  }
  setOpen(directory.descriptor, directory.at('.'), 'directory', attributes, onUnset);
}

/** A directory in which what is created inherits nothing. */
export function closeToOthers(directory: OpenDirectory): void {
  for (const name of [defaultAcl, accessAcl]) removeExtended(directory.at('.'), name);
  fchmodSync(directory.descriptor, 0o700);
}

/** Gives a link, pipe or device everything but its mode; nobody else may write beside it. */
export function setUnopened(at: SystemPath, attributes: ArtifactAttributes, onUnset: OnUnset): void {
  const { uid, gid, mtimeNs, extended = [] } = attributes;
  attempt('owner', onUnset, () => lchownSync(at, uid, gid));
  for (const attribute of extended) attempt(attribute.name, onUnset, () => setExtended(at, attribute));
  setTimes(at, mtimeNs, mtimeNs);
}

/** False when it was refused. */
function attempt(what: string, onUnset: OnUnset, set: () => void): boolean {
  try {
    set();
    return true;
  } catch (error) {
    if (!isRefused(error)) throw error;
    onUnset(what);
    return false;
  }
}

/** Not for this user, not on this file system, or no such user in this container. */
const isRefused = (error: unknown): boolean =>
  isUnsupported(error) || ['EPERM', 'EACCES', 'EINVAL'].some((errno) => hasErrno(error, errno));

const groupEntry = 0x04;
const maskEntry = 0x10;

/**
 * With an access list the group's bits of a mode are what anybody in the list may have at most. Without the list they
 * would be the owning group's.
 */
function modeWithoutAcl(mode: number, { value }: ExtendedAttribute): number {
  const view = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  let [group, mask] = [0, 7];
  // A version in four bytes, then entries of tag, rights and id.
  for (let at = 4; at + 8 <= view.length; at += 8) {
    if (view.readUInt16LE(at) === groupEntry) group = view.readUInt16LE(at + 2);
    if (view.readUInt16LE(at) === maskEntry) mask = view.readUInt16LE(at + 2);
  }
  return (mode & 0o7707) | ((group & mask & 7) << 3);
}
