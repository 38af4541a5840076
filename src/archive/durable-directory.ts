import { constants } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { hasErrno, isSystemError } from '../model/errors.ts';
import { exists } from './claim.ts';

const notSupported: ReadonlySet<string> = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'ENOSYS']);

/** Makes names created or renamed in `directory` survive a power cut, where the file system knows how. */
export async function fsyncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    if (!isSystemError(error) || !notSupported.has(error.code ?? '')) throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Creates the directory and all above it so that they survive a power cut, as what is published in it must. Node's own
 * recursion never ends where a directory that is there answers ENOENT to new entries, as those of an automounter do.
 */
export async function createDurably(directory: string): Promise<void> {
  try {
    await mkdir(directory, { mode: 0o700 });
    await fsyncDirectory(dirname(directory));
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return;
    if (!hasErrno(error, 'ENOENT') || (await exists(dirname(directory)))) throw error;
    await createDurably(dirname(directory));
    await createDurably(directory);
  }
}
