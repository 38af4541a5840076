import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { throwIfAborted } from '../model/abort.ts';
import { TarsError, toTarsError } from '../model/errors.ts';
import { freeBytes } from '../disk/space.ts';
import { openScratch } from '../disk/run-scratch.ts';
import type { Bytes } from '../ports/artifacts.ts';

/** Left free on the scratch file system, so that a spool never fills it to the last byte. */
const reserveBytes = 32 * 1024 * 1024;
/** A body of unknown length is measured against the free space this often. */
const checkEveryBytes = 32 * 1024 * 1024;

/** A private directory (0700) for bodies on their way, removed on dispose. */
export interface Scratch extends AsyncDisposable {
  /**
   * Writes `body` to the file `name` and returns its length.
   * @throws TarsError `no-space` before the file system is full; what was written is removed
   */
  spool(name: string, body: Bytes, expectedBytes: number, signal: AbortSignal): Promise<number>;
  path(name: string): string;
  remove(name: string): Promise<void>;
}

/**
 * Creates a directory of its own below `scratchDir` (0700); disposing of it removes it. @throws TarsError when
 * that cannot be written to
 */
export async function createScratch(scratchDir: string): Promise<Scratch> {
  const scratch = await openScratch(scratchDir, 'archive');
  const directory = scratch.path;
  const path = (name: string): string => join(directory, name);
  const remove = (name: string): Promise<void> => rm(path(name), { force: true });
  return {
    path,
    remove,
    async spool(name, body, expectedBytes, signal) {
      try {
        await requireSpace(directory, expectedBytes);
        return await spoolInto(path(name), body, directory, signal);
      } catch (cause) {
        await remove(name);
        throw toTarsError(cause, `Cannot write to the scratch directory ${directory}`);
      }
    },
    [Symbol.asyncDispose]: () => scratch[Symbol.asyncDispose](),
  };
}

async function spoolInto(path: string, body: Bytes, directory: string, signal: AbortSignal): Promise<number> {
  const handle = await open(path, 'wx', 0o600);
  try {
    let sizeBytes = 0;
    let nextCheckBytes = checkEveryBytes;
    for await (const chunk of body) {
      throwIfAborted(signal);
      await handle.writeFile(chunk);
      sizeBytes += chunk.byteLength;
      if (sizeBytes >= nextCheckBytes) {
        await requireSpace(directory, 0);
        nextCheckBytes = sizeBytes + checkEveryBytes;
      }
    }
    return sizeBytes;
  } finally {
    await handle.close();
  }
}

async function requireSpace(directory: string, neededBytes: number): Promise<void> {
  const free = await freeBytes(directory);
  if (free < neededBytes + reserveBytes) {
    throw new TarsError(
      'no-space',
      `Not enough space in the scratch directory ${directory}: ${free} bytes are free, ${neededBytes} and a reserve of ${reserveBytes} are needed`,
      { hint: 'Free space there, or point scratch_dir in tars.yaml to a larger file system.' },
    );
  }
}
