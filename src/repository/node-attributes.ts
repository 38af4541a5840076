import type { ArtifactAttributes, FileIdentity } from '../ports/artifacts.ts';
import type { TreeNode } from './format/tree.ts';

/**
 * Times and inode of a node. What was read from no file has no ctime and inode of its own, and is never found
 * unchanged later.
 */
export function nodeTimes(
  { mtimeNs }: ArtifactAttributes,
  identity: FileIdentity | undefined,
): Pick<TreeNode, 'mtimeNs' | 'atimeNs' | 'ctimeNs' | 'inode'> {
  return {
    mtimeNs,
    atimeNs: mtimeNs,
    ctimeNs: identity?.ctimeNs ?? mtimeNs,
    ...(identity === undefined ? {} : { inode: identity.inode }),
  };
}

/** Permission bits and owner of a node. */
export function nodeOwner({ mode, uid, gid }: ArtifactAttributes): Pick<TreeNode, 'mode' | 'uid' | 'gid'> {
  return { mode, uid, gid };
}

/** Whom what tars itself writes belongs to; 0 where the system knows no users. */
export function ownerOfProcess(): { readonly uid: number; readonly gid: number } {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}
