import type { BigIntStats } from 'node:fs';
import { lstat, stat } from 'node:fs/promises';
import { hasErrno, toTarsError } from '../model/errors.ts';

/** Whether the error of a system call says that nothing has that path. Any other says nothing about it. */
export const isMissing = (error: unknown): boolean => hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR');

/** True when there is anything at `path`, also a dangling link. @throws TarsError when that cannot be told */
export async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw toTarsError(error, `Cannot access ${path}`);
  }
}

/** What `path` is, or leads to; undefined when that is not there. @throws TarsError when that cannot be told */
export async function statIfThere(path: string): Promise<BigIntStats | undefined> {
  try {
    return await stat(path, { bigint: true });
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw toTarsError(error, `Cannot access ${path}`);
  }
}
