import { readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { throwIfAborted } from '../../model/abort.ts';
import { TarsError } from '../../model/errors.ts';
import { isThere, whenMissing } from '../../disk/is-there.ts';
import { makeDirectories } from '../../disk/make-directories.ts';
import { requireMounted } from '../../disk/mounts.ts';
import { syncDirectory, syncDirectoryIfReadable } from '../../disk/sync.ts';
import { directoryTypes, packFolders } from './layout.ts';
import { storageError } from './storage-errors.ts';

/** Every mount point of an ext file system has it. */
const harmlessEntries = new Set(['lost+found', ...directoryTypes]);

async function entriesOf(path: string): Promise<string[]> {
  return readdir(path).catch(whenMissing<string[]>([]));
}

/**
 * Refuses a directory that is a repository, was one, or holds somebody's files. An empty structure, such as an
 * interrupted creation leaves, is taken over.
 */
async function refuseOccupied(root: string): Promise<void> {
  if (await isThere(join(root, 'config'))) {
    throw new TarsError('storage-exists', `There is already a repository in ${root}`, {
      hint: 'Use it as it is, or choose another directory.',
      context: { path: root },
    });
  }
  const foreign = (await entriesOf(root)).find((name) => !harmlessEntries.has(name));
  if (foreign !== undefined) {
    throw new TarsError(
      'storage-exists',
      `${root} is not empty and is not a repository: it contains ${foreign}`,
      {
        hint: 'Choose an empty or a new directory for the repository.',
        context: { path: root },
      },
    );
  }
  for (const type of ['keys', 'snapshots', 'index'] as const) {
    const names = await entriesOf(join(root, type));
    if (names.length === 0) continue;
    throw new TarsError('storage-exists', `${root} has files in ${type}/ but no config`, {
      hint:
        `If a repository was in use here, its config is lost: restore it from a copy. If only its creation ` +
        `was interrupted, delete ${root} and try again.`,
      context: { path: root },
    });
  }
}

/** Every directory that was created is an entry of the one above it, which must survive a power cut as well. */
async function syncAbove(root: string, firstCreated = root): Promise<void> {
  for (let created = root; ; created = dirname(created)) {
    await syncDirectoryIfReadable(dirname(created));
    if (created === firstCreated || created === dirname(created)) return;
  }
}

/**
 * Creates the directories of an empty repository below `root`, mode 0700, durably.
 * @throws TarsError `storage-exists` when `root` is a repository or not empty, `storage-failed` when its disk is not
 * mounted
 */
export async function createStructure(root: string, signal: AbortSignal): Promise<void> {
  try {
    await requireMounted(root);
    await refuseOccupied(root);
    const [firstCreated] = await makeDirectories(root, 0o700);
    for (const name of [...directoryTypes, ...packFolders.map((folder) => join('data', folder))]) {
      throwIfAborted(signal);
      await makeDirectories(join(root, name), 0o700);
    }
    await syncDirectory(join(root, 'data'));
    await syncDirectory(root);
    await syncAbove(root, firstCreated);
  } catch (error) {
    throw storageError(error, `Cannot create a repository in ${root}`, root);
  }
}
