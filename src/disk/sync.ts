import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { isSystemError } from '../model/errors.ts';

/** What network and FUSE file systems answer to what they do not know. */
export const unsupportedErrnos: ReadonlySet<string> = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'ENOSYS']);

/** fsync; where the file system does not know it, restic goes on without it, and so do we. */
export async function syncWhereSupported(handle: FileHandle): Promise<void> {
  try {
    await handle.sync();
  } catch (error) {
    if (!isSystemError(error) || !unsupportedErrnos.has(error.code ?? '')) throw error;
  }
}

/** Makes creations, links, renames and removals inside `directory` survive a power cut. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await syncWhereSupported(handle);
  } finally {
    await handle.close();
  }
}
