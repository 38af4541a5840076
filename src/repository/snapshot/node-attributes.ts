import type { ArtifactAttributes, FileIdentity, SpecialFile } from '../../ports/artifacts.ts';
import type { NodeType, TreeNode } from '../format/tree.ts';

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

/** Permission bits, owner and extended attributes of a node. */
export function nodeOwner({
  mode,
  uid,
  gid,
  extended,
}: ArtifactAttributes): Pick<TreeNode, 'mode' | 'uid' | 'gid' | 'extended'> {
  return { mode, uid, gid, ...(extended === undefined || extended.length === 0 ? {} : { extended }) };
}

/**
 * How many names a file has. Of which file they are is only told by inode and device together, so without a device it
 * is one: restic would link files that have nothing in common.
 */
export function nodeLinks(identity: FileIdentity | undefined): Pick<TreeNode, 'links' | 'deviceId'> {
  const { deviceId, links } = identity ?? {};
  return deviceId === undefined || links === undefined ? { links: 1 } : { deviceId, links };
}

/** A parent's node of a file whose content did not change; other `attributes` than the parent's where they are given. */
export function reusedNode(
  node: TreeNode,
  identity: FileIdentity,
  attributes: ArtifactAttributes | undefined,
): Omit<TreeNode, 'name'> {
  if (attributes === undefined) return { ...node, ...nodeLinks(identity) };
  const { type, content = Buffer.alloc(0) } = node;
  const { sizeBytes } = identity;
  const now = { ...nodeTimes(attributes, identity), ...nodeOwner(attributes), ...nodeLinks(identity) };
  return { type, ...now, sizeBytes, content };
}

const specialNodes: Readonly<Record<SpecialFile['type'], NodeType>> = {
  fifo: 'fifo',
  socket: 'socket',
  'character-device': 'chardev',
  'block-device': 'dev',
};

/** Type and device of an entry that is neither file, directory nor symbolic link. */
export function nodeSpecial({ type, device }: SpecialFile): Pick<TreeNode, 'type' | 'device'> {
  return { type: specialNodes[type], ...(device === undefined ? {} : { device }) };
}

/** Whom what tars itself writes belongs to; 0 where the system knows no users. */
export function ownerOfProcess(): { readonly uid: number; readonly gid: number } {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}
