import { randomBytes } from 'node:crypto';
import { closeSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { link, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { throwIfAborted } from '../model/abort.ts';
import { isSystemError } from '../model/errors.ts';
import { isThere } from './is-there.ts';
import type { OpenDirectory } from './open-directory.ts';
import { removeTree } from './remove-tree.ts';
import {
  syncDescriptorNow,
  syncDirectory,
  syncDirectoryIfReadable,
  syncWhereSupported,
  unsupportedErrnos,
} from './sync.ts';

/** What a file is to hold. */
type Content = string | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

interface NewFile {
  /** Permission bits from the first byte on; 0600 by default. */
  readonly mode?: number | undefined;
  /** Sets what else the file is to have, after its bytes and before they are synced. */
  readonly finish?: ((file: FileHandle) => Promise<void>) | undefined;
}

/**
 * Creates the file `path`. When it resolves, the bytes survive a power cut. Nothing of the file remains after an error.
 * @param options.syncParent false where the caller syncs the directory after several files; until then a power cut may
 * take away the name
 * @throws NodeJS.ErrnoException `EEXIST` when `path` exists; what `content` throws
 */
export async function createDurably(
  path: string,
  content: Content,
  options: NewFile & { readonly syncParent?: boolean } = {},
): Promise<void> {
  await writeNew(path, content, { ...options, durable: true });
  if (options.syncParent === false) return;
  await orRemove(path, syncDirectoryIfReadable(dirname(path)));
}

/**
 * Puts a file in the place of `path`, or creates it: after a crash the old file or the new one is there, whole.
 * A path has one writer at a time, since each uses `PATH.tmp`.
 */
export async function replaceDurably(path: string, content: Content, options: NewFile = {}): Promise<void> {
  const temporary = temporaryOf(path);
  // What a run that was killed left.
  await rm(temporary, { force: true });
  await writeNew(temporary, content, { ...options, durable: true });
  await orRemove(temporary, rename(temporary, path));
  await syncDirectoryIfReadable(dirname(path));
}

/**
 * {@link replaceDurably} of an entry of a directory that is held open.
 * @param name of ASCII characters
 * @param directory only this user and root can enter it
 */
export async function replaceDurablyIn(
  directory: OpenDirectory,
  name: string,
  content: Content,
): Promise<void> {
  // Also a directory, which an earlier owner of the directory may have left there.
  await removeTree(directory, temporaryOf(name));
  await replaceDurably(`/proc/self/fd/${directory.descriptor}/${name}`, content);
}

/** {@link replaceDurably} with mode 0600, for what must not let others continue meanwhile. */
export function replaceDurablySync(path: string, text: string): void {
  const temporary = temporaryOf(path);
  rmSync(temporary, { force: true });
  try {
    const file = openSync(temporary, 'wx', 0o600);
    try {
      writeFileSync(file, text);
      syncDescriptorNow(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

const temporaryOf = (path: string): string => `${path}.tmp`;

interface PublishedFile extends NewFile {
  /** Without, the file may be gone or empty after a power cut. True by default. */
  readonly durable?: boolean;
  readonly signal: AbortSignal;
}

/**
 * Creates the file `path` whole or not at all, beside any number of other writers: temporary file beside it, fsync,
 * link, fsync of the directory. The temporary's name is restic's, `<name>-tmp-<random>`, which listings pass over.
 * @throws NodeJS.ErrnoException `EEXIST` when `path` exists
 */
export async function publishDurably(
  path: string,
  content: readonly Uint8Array[],
  { mode, finish, durable = true, signal }: PublishedFile,
): Promise<void> {
  const temporary = `${path}-tmp-${randomBytes(8).toString('hex')}`;
  let published = false;
  try {
    await writeNew(temporary, watched(content, signal), { mode, finish, durable });
    throwIfAborted(signal);
    await giveName(temporary, path);
    published = true;
    await rm(temporary, { force: true });
    if (durable) await syncDirectory(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (published) await rm(path, { force: true }).catch(() => undefined);
    throw error;
  }
}

function* watched(content: readonly Uint8Array[], signal: AbortSignal): Generator<Uint8Array, void> {
  for (const part of content) {
    throwIfAborted(signal);
    yield part;
  }
}

const noHardLinks: ReadonlySet<string> = new Set(['EPERM', 'EMLINK', ...unsupportedErrnos]);

/**
 * Gives `temporary` its final name unless that exists: a hard link fails on an existing name atomically, which a
 * rename does not. File systems without hard links get a look and a rename.
 */
async function giveName(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path);
  } catch (error) {
    if (!isSystemError(error) || !noHardLinks.has(error.code ?? '')) throw error;
    if (await isThere(path)) throw Object.assign(new Error(`${path} exists`), { code: 'EEXIST' });
    await rename(temporary, path);
  }
}

async function writeNew(
  path: string,
  content: Content,
  { mode = 0o600, finish, durable }: NewFile & { readonly durable: boolean },
): Promise<void> {
  const file = await open(path, 'wx', mode);
  const fill = async (): Promise<void> => {
    try {
      for await (const part of typeof content === 'string' ? [Buffer.from(content)] : content)
        for (let at = 0; at < part.length;) at += (await file.write(part, at)).bytesWritten;
      await finish?.(file);
      if (durable) await syncWhereSupported(file);
    } finally {
      await file.close();
    }
  };
  await orRemove(path, fill());
}

/** Waits for `work`; when it fails, the file that it was about is removed. */
async function orRemove(path: string, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    await rm(path, { force: true }).catch(() => undefined);
    throw error;
  }
}
