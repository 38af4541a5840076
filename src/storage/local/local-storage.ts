import { mkdir, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { publishDurably } from '../../disk/durable-file.ts';
import { whenMissing, isMissing } from '../../disk/is-there.ts';
import { throwIfAborted } from '../../model/abort.ts';
import { CorruptionError, hasErrno, isSystemError, TarsError } from '../../model/errors.ts';
import type { StorageBackend, StorageFile, StorageFileType } from '../../ports/storage.ts';
import { createStructure } from './create-structure.ts';
import { syncDirectory, unsupportedErrnos } from '../../disk/sync.ts';
import { directoryOf, isFileName, isTemporaryName, packFolders, pathOf } from './layout.ts';
import { isFullDisk, storageError } from './storage-errors.ts';

/** Permission bits of new directories and files. */
interface Modes {
  readonly directory: number;
  readonly file: number;
}

/**
 * Repository files in a directory of the local file system, in restic's default layout. Creating and opening
 * touch nothing until a method is called. Stored files are read-only; a repository whose `config` the group may
 * read gets group permissions throughout, as restic does it.
 */
export function createLocalStorage(path: string): StorageBackend {
  return new LocalStorage(resolve(path));
}

class LocalStorage implements StorageBackend {
  readonly location: string;
  #modes: Promise<Modes> | undefined;

  constructor(root: string) {
    this.location = root;
  }

  async create(signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    await createStructure(this.location, signal);
  }

  async save(file: StorageFile, content: readonly Uint8Array[], signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    const path = pathOf(this.location, file);
    try {
      const { directory, file: mode } = await this.#readModes();
      const write = (): Promise<void> =>
        publishDurably(path, content, {
          mode,
          finish: (handle) => makeReadOnly(handle, mode & 0o444),
          durable: file.type !== 'locks',
          signal,
        });
      await write().catch(async (error: unknown) => {
        if (!hasErrno(error, 'ENOENT') || file.type === 'config') throw error;
        await this.#createFolders(file, directory);
        await write();
      });
    } catch (error) {
      throw isFullDisk(error)
        ? storageError(error, `Cannot write to the repository ${this.location}`, this.location)
        : storageError(error, `Cannot write ${path}`, path);
    }
  }

  async load(
    file: StorageFile,
    range: { offsetBytes: number; lengthBytes: number } | undefined,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    throwIfAborted(signal);
    const path = pathOf(this.location, file);
    try {
      await using handle = await open(path, 'r');
      const { size } = await handle.stat();
      const { offsetBytes, lengthBytes } = range ?? { offsetBytes: 0, lengthBytes: size };
      if (offsetBytes + lengthBytes > size) throw tooShort(path, size, offsetBytes + lengthBytes);
      const bytes = Buffer.allocUnsafeSlow(lengthBytes);
      let readBytes = 0;
      while (readBytes < lengthBytes) {
        throwIfAborted(signal);
        const { bytesRead } = await handle.read(
          bytes,
          readBytes,
          lengthBytes - readBytes,
          offsetBytes + readBytes,
        );
        if (bytesRead === 0) throw tooShort(path, offsetBytes + readBytes, offsetBytes + lengthBytes);
        readBytes += bytesRead;
      }
      return bytes;
    } catch (error) {
      throw storageError(error, `Cannot read ${path}`, path);
    }
  }

  async stat(file: StorageFile, signal: AbortSignal): Promise<{ readonly sizeBytes: number }> {
    throwIfAborted(signal);
    const path = pathOf(this.location, file);
    try {
      return { sizeBytes: (await stat(path)).size };
    } catch (error) {
      throw storageError(error, `Cannot read ${path}`, path);
    }
  }

  async *list(
    type: StorageFileType,
    signal: AbortSignal,
  ): AsyncIterable<{ readonly name: string; readonly sizeBytes: number }> {
    throwIfAborted(signal);
    if (type === 'config') {
      yield* this.#listFolder(this.location, (name) => name === 'config', signal, '');
    } else if (type === 'data') {
      for (const folder of packFolders) {
        const inPlace = (name: string): boolean => isFileName(name) && name.startsWith(folder);
        yield* this.#listFolder(join(this.location, 'data', folder), inPlace, signal);
      }
    } else {
      yield* this.#listFolder(join(this.location, type), isFileName, signal);
    }
  }

  async remove(file: StorageFile, signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    const path = pathOf(this.location, file);
    try {
      await rm(path, { force: true });
      // What is deleted later (packs) must not outrun what was deleted first; locks and packs themselves need
      // no such order.
      if (file.type !== 'locks' && file.type !== 'data') await syncDirectory(dirname(path));
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return;
      throw storageError(error, `Cannot remove ${path}`, path);
    }
  }

  async removeUnfinished(signal: AbortSignal): Promise<number> {
    const folders = [
      ...packFolders.map((folder) => join(this.location, 'data', folder)),
      ...(['index', 'snapshots', 'keys'] as const).map((type) => join(this.location, type)),
    ];
    let removedBytes = 0;
    for (const folder of folders) {
      for await (const { name, sizeBytes } of this.#listFolder(folder, isTemporaryName, signal)) {
        const path = join(folder, name);
        await rm(path, { force: true }).catch((error: unknown) => {
          throw storageError(error, `Cannot remove ${path}`, path);
        });
        removedBytes += sizeBytes;
      }
    }
    return removedBytes;
  }

  /** Regular files only, by name; temporary and foreign names do not pass `accept`. A missing folder is empty. */
  async *#listFolder(
    folder: string,
    accept: (name: string) => boolean,
    signal: AbortSignal,
    nameInstead?: string,
  ): AsyncGenerator<{ readonly name: string; readonly sizeBytes: number }> {
    try {
      const names = (await readdir(folder)).filter(accept).sort();
      for (const name of names) {
        throwIfAborted(signal);
        const found = await stat(join(folder, name)).catch(whenMissing(undefined));
        if (found?.isFile() === true) yield { name: nameInstead ?? name, sizeBytes: found.size };
      }
    } catch (error) {
      if (isMissing(error)) return;
      throw storageError(error, `Cannot list ${folder}`, folder);
    }
  }

  /**
   * Copies of a repository may lack empty folders. The root itself is never created here: a missing one is more
   * likely an unmounted disk.
   */
  async #createFolders(file: StorageFile, mode: number): Promise<void> {
    const folder = directoryOf(this.location, file);
    if (file.type === 'data') {
      await mkdir(dirname(folder), { mode }).catch(ignoreExisting);
      await syncDirectory(this.location);
    }
    await mkdir(folder, { mode }).catch(ignoreExisting);
    await syncDirectory(dirname(folder));
  }

  #readModes(): Promise<Modes> {
    this.#modes ??= stat(join(this.location, 'config')).then(
      (found) =>
        (found.mode & 0o040) === 0 ? { directory: 0o700, file: 0o600 } : { directory: 0o770, file: 0o660 },
      () => {
        this.#modes = undefined;
        return { directory: 0o700, file: 0o600 };
      },
    );
    return this.#modes;
  }
}

/** Read-only guards against accidents; some file systems (exFAT, CIFS) refuse chmod, which restic ignores too. */
async function makeReadOnly(handle: FileHandle, mode: number): Promise<void> {
  await handle.chmod(mode).catch((error: unknown) => {
    if (!isSystemError(error) || !['EPERM', ...unsupportedErrnos].includes(error.code ?? '')) throw error;
  });
}

function tooShort(path: string, sizeBytes: number, wantedBytes: number): TarsError {
  return new CorruptionError(`${path} is too short: it has ${sizeBytes} bytes, ${wantedBytes} are needed`, {
    hint: 'The file was truncated. Run "tars check --read-data" to see which snapshots need it.',
    context: { path, sizeBytes, wantedBytes },
  });
}

function ignoreExisting(error: unknown): undefined {
  if (!hasErrno(error, 'EEXIST')) throw error;
}
