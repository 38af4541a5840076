import { chown, mkdir, readdir, realpath, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createDurably } from '../../disk/durable-file.ts';
import { nearestExisting } from '../../disk/space.ts';
import { statIfThere } from '../../disk/is-there.ts';
import { hasErrno, toTarsError } from '../../model/errors.ts';
import type { Bytes } from '../../ports/artifacts.ts';

/** Who owns what a restore puts into the store. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** The folders a restore works in beside one part (`blobs` or `manifests`) of the store; same file system. */
export interface WorkFolders {
  readonly live: string;
  readonly staged: string;
  readonly previous: string;
}

/**
 * Where to work beside `<root>/<part>`: in the store's own folder, or inside the part when that is a mount of its
 * own, because renames do not cross file systems. Never where Ollama looks for models: it knows only files four
 * levels below `manifests` and directly in `blobs`.
 */
export async function workFolders(root: string, part: string, restoreId: string): Promise<WorkFolders> {
  const there = await statIfThere(join(root, part));
  const live = there === undefined ? join(root, part) : await realpath(join(root, part));
  const above = await stat(await nearestExisting(dirname(live)), { bigint: true });
  const base = there !== undefined && there.dev !== above.dev ? live : dirname(live);
  return {
    live,
    staged: join(base, `.tars-new-${restoreId}`, part),
    previous: join(base, `.tars-prev-${restoreId}`, part),
  };
}

/** Gives `path` to the store's owner; only root can, and only root needs to. */
export async function giveTo(path: string, owner: Owner): Promise<void> {
  if (process.getuid?.() === 0) await chown(path, owner.uid, owner.gid);
}

/** Directories at and above `directory` that are missing, outermost first. */
export async function missingDirectories(directory: string): Promise<string[]> {
  const missing: string[] = [];
  for (let path = directory; (await statIfThere(path)) === undefined; path = dirname(path))
    missing.unshift(path);
  return missing;
}

/** Creates what is missing of `directories` (parents first), owned like the store. */
export async function createDirectories(directories: readonly string[], owner: Owner): Promise<void> {
  for (const directory of directories) {
    try {
      await mkdir(directory, { mode: 0o755 });
    } catch (error) {
      if (hasErrno(error, 'EEXIST')) continue;
      throw toTarsError(error, `Cannot create ${directory}`);
    }
    await giveTo(directory, owner);
  }
}

/** Removes those of `directories` that are empty, innermost first. */
export async function removeEmptyDirectories(directories: readonly string[]): Promise<void> {
  for (const directory of [...directories].reverse()) {
    await rmdir(directory).catch((error: unknown) => {
      if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].some((errno) => hasErrno(error, errno))) throw error;
    });
  }
}

/** Removes the tree when there is no file anywhere in it. */
export async function removeEmptyTree(directory: string): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(
    (error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    },
  );
  if (entries?.every((entry) => entry.isDirectory()) === true) await rm(directory, { recursive: true });
}

/** Writes a new file and makes its bytes durable. @throws TarsError naming the file; nothing of it remains */
export async function writeOwned(
  path: string,
  body: Bytes,
  owner: Owner,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const counted = async function* (): Bytes {
    for await (const chunk of body) {
      yield chunk;
      onBytes(chunk.byteLength);
    }
  };
  try {
    await createDurably(path, counted(), {
      mode: 0o644,
      async finish(file) {
        await file.chmod(0o644);
        if (process.getuid?.() === 0) await file.chown(owner.uid, owner.gid);
      },
      syncParent: false,
    });
  } catch (error) {
    throw toTarsError(error, `Cannot write ${path}`);
  }
}
