import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { statIfThere } from './is-there.ts';

/** What a file system has, and what this user may still use of it. */
interface Space {
  readonly freeBytes: number;
  readonly totalBytes: number;
  readonly freeInodes: number;
  readonly inodes: number;
}

/** The space where `path` lies, or where it would be created. @throws an error of the system */
export async function spaceAt(path: string): Promise<Space> {
  const { bavail, bsize, blocks, ffree, files } = await statfs(await nearestExisting(path));
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, freeInodes: ffree, inodes: files };
}

/** Bytes that may still be written at `path`, or where it would be created. @throws an error of the system */
export const freeBytes = async (path: string): Promise<number> => (await spaceAt(path)).freeBytes;

/** `path`, or the first directory above it that exists, links followed. @throws TarsError when that cannot be told */
export async function nearestExisting(path: string): Promise<string> {
  let candidate = path;
  while ((await statIfThere(candidate)) === undefined && dirname(candidate) !== candidate)
    candidate = dirname(candidate);
  return candidate;
}
