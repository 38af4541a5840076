import { isSystemError, TarsError, toTarsError } from '../../model/errors.ts';

/** Hints that are better when they name the path; for other failures the model's own. */
const hints: Readonly<Record<string, (path: string) => string>> = {
  ENOSPC: (path) => `Free space on the file system of ${path}, or move the repository to a larger one.`,
  EACCES: (path) => `Run tars as a user who may read and write ${path}, or correct its owner and mode.`,
  EPERM: (path) => `Run tars as a user who may read and write ${path}, or correct its owner and mode.`,
};
const unknownHint = (path: string): string =>
  `Check the disk that holds ${path}: mount, cabling, kernel log.`;

/** The system's message about a full disk repeats the file name, which helps no one. */
const fullDisks: Readonly<Record<string, string>> = {
  ENOSPC: 'no space left on its file system',
  EDQUOT: 'the quota of its file system is used up',
};

/** Whether a system call failed for want of room. */
export const isFullDisk = (error: unknown): boolean =>
  isSystemError(error) && fullDisks[error.code ?? ''] !== undefined;

/**
 * An error of a system call on `path` as a {@link TarsError} whose hint names the path. Anything the model does
 * not know better, such as `EIO`, becomes `storage-failed`.
 */
export function storageError(error: unknown, what: string, path: string): TarsError {
  const known = toTarsError(error, what);
  if (!isSystemError(error) || error instanceof TarsError || known.code === 'interrupted') return known;
  const code = known.code === 'internal' ? 'storage-failed' : known.code;
  const named = hints[error.code ?? '']?.(path) ?? known.hint;
  const hint = named ?? (code === 'storage-failed' ? unknownHint(path) : undefined);
  const full = fullDisks[error.code ?? ''];
  return new TarsError(code, full === undefined ? known.message : `${what}: ${full}`, {
    ...(hint === undefined ? {} : { hint }),
    context: { path, errno: error.code ?? '' },
    cause: error,
  });
}
