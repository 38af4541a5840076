import { randomBytes } from 'node:crypto';
import { link, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { throwIfAborted } from '../../model/abort.ts';
import { isThere } from '../../disk/is-there.ts';
import { syncDirectory, syncWhereSupported, unsupportedErrnos } from '../../disk/sync.ts';
import { hasErrno, isSystemError } from '../../model/errors.ts';

const noHardLinks = new Set(['EPERM', 'EMLINK', ...unsupportedErrnos]);

const failedWith = (error: unknown, errnos: ReadonlySet<string>): boolean =>
  isSystemError(error) && errnos.has(error.code ?? '');

async function writeAll(
  handle: FileHandle,
  content: readonly Uint8Array[],
  signal: AbortSignal,
): Promise<void> {
  for (const part of content) {
    let writtenBytes = 0;
    while (writtenBytes < part.length) {
      throwIfAborted(signal);
      writtenBytes += (await handle.write(part, writtenBytes)).bytesWritten;
    }
  }
}

/** Read-only guards against accidents; some file systems (exFAT, CIFS) refuse chmod, which restic ignores too. */
async function makeReadOnly(handle: FileHandle, mode: number): Promise<void> {
  try {
    await handle.chmod(mode);
  } catch (error) {
    if (!hasErrno(error, 'EPERM') && !failedWith(error, unsupportedErrnos)) throw error;
  }
}

/**
 * Gives `temporary` its final name unless that exists: a hard link fails on an existing name atomically, which a
 * rename does not. File systems without hard links get a look and a rename.
 */
async function publish(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path);
  } catch (error) {
    if (!failedWith(error, noHardLinks)) throw error;
    if (await isThere(path)) throw Object.assign(new Error(`${path} exists`), { code: 'EEXIST' });
    await rename(temporary, path);
  }
}

/** What the file holds, and how safely it is put there. */
interface WriteDurablyOptions {
  readonly content: readonly Uint8Array[];
  /** Permission bits while writing. */
  readonly mode: number;
  /** The write bits go before the file gets its name. */
  readonly readOnly: boolean;
  /** Without, the file may be gone or empty after a power cut. */
  readonly durable: boolean;
  readonly signal: AbortSignal;
}

/**
 * Creates the file `path` whole or not at all: temporary file beside it, fsync, link, fsync of the
 * directory. The temporary's name is restic's, `<name>-tmp-<random>`, which listings pass over.
 * @throws NodeJS.ErrnoException `EEXIST` when `path` exists
 */
export async function writeDurably(path: string, options: WriteDurablyOptions): Promise<void> {
  const { content, mode, readOnly, durable, signal } = options;
  const temporary = `${path}-tmp-${randomBytes(8).toString('hex')}`;
  let published = false;
  try {
    const handle = await open(temporary, 'wx', mode);
    try {
      await writeAll(handle, content, signal);
      if (readOnly) await makeReadOnly(handle, mode & 0o444);
      if (durable) await syncWhereSupported(handle);
    } finally {
      await handle.close();
    }
    throwIfAborted(signal);
    await publish(temporary, path);
    published = true;
    await rm(temporary, { force: true });
    if (durable) await syncDirectory(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (published) await rm(path, { force: true }).catch(() => undefined);
    throw error;
  }
}
