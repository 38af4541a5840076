import { TarsError } from '../model/errors.ts';
import { openPath } from './open-path.ts';

/** A directory of this user alone, held open. */
interface PrivateDirectory extends Disposable {
  /** A path that leads to it for this process, whatever becomes of its name. */
  readonly path: string;
}

/**
 * Opens the directory that was just created at `path`. Who may write around it could have put another one, or a link,
 * in its place, and would have this user write and chown elsewhere.
 * @throws TarsError `access-denied` when it is not this user's alone
 */
export async function openPrivateDirectory(path: string): Promise<PrivateDirectory> {
  const opened = await openPath(path);
  if (opened.directory.isPrivate) {
    const { descriptor } = opened.directory;
    return { path: `/proc/self/fd/${descriptor}`, [Symbol.dispose]: () => opened[Symbol.dispose]() };
  }
  opened[Symbol.dispose]();
  throw new TarsError(
    'access-denied',
    `Cannot use ${path}: another user owns it, or may write there, so it may not be what tars created`,
    {
      hint: 'Look at what it holds, and at who may write to the directory above it. Move it away, then run the restore again.',
    },
  );
}
