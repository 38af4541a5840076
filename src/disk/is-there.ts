import type { BigIntStats } from 'node:fs';
import { access, lstat, stat } from 'node:fs/promises';
import { hasErrno, toTarsError } from '../model/errors.ts';

/** Whether the error of a system call says that nothing has that path. Any other says nothing about it. */
export const isMissing = (error: unknown): boolean => hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR');

/**
 * For `.catch` behind a system call: `value` where nothing has that path. Any other error is thrown.
 * @param what what was attempted, as in {@link toTarsError}; without it the error is thrown as it is
 */
export const whenMissing =
  <T>(value: T, what?: string) =>
  (error: unknown): T => {
    if (isMissing(error)) return value;
    throw what === undefined ? error : toTarsError(error, what);
  };

/** True when there is anything at `path`, also a dangling link. @throws TarsError when that cannot be told */
export const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(() => true, whenMissing(false, `Cannot access ${path}`));

/** True when this user sees something at `path`, links followed. What cannot be looked at is not seen. */
export const isVisible = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** What `path` is, or leads to; undefined when that is not there. @throws TarsError when that cannot be told */
export const statIfThere = (path: string): Promise<BigIntStats | undefined> =>
  stat(path, { bigint: true }).catch(whenMissing(undefined, `Cannot access ${path}`));
