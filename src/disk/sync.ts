import { constants, fsync, fsyncSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { hasErrno, isSystemError } from '../model/errors.ts';

const syncAside = promisify(fsync);

/** What network and FUSE file systems answer to what they do not know. */
export const unsupportedErrnos: ReadonlySet<string> = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'ENOSYS']);

/** fsync; if the file system does not support it, we continue without it, as restic does. */
export async function syncWhereSupported(handle: FileHandle): Promise<void> {
  await syncDescriptor(handle.fd);
}

/** {@link syncWhereSupported} of a descriptor. */
export async function syncDescriptor(descriptor: number): Promise<void> {
  try {
    await syncAside(descriptor);
  } catch (error) {
    requireUnsupported(error);
  }
}

/** {@link syncDescriptor} for what must not let others continue meanwhile. */
export function syncDescriptorNow(descriptor: number): void {
  try {
    fsyncSync(descriptor);
  } catch (error) {
    requireUnsupported(error);
  }
}

function requireUnsupported(error: unknown): void {
  if (!isSystemError(error) || !unsupportedErrnos.has(error.code ?? '')) throw error;
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

/** {@link syncDirectory}, except of a directory that this user may enter but not read, which cannot be opened. */
export const syncDirectoryIfReadable = (directory: string): Promise<void> =>
  syncDirectory(directory).catch((error: unknown) => {
    if (!hasErrno(error, 'EACCES')) throw error;
  });
