import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { throwIfAborted } from '../../../model/abort.ts';
import { TarsError, toTarsError } from '../../../model/errors.ts';

/** In UTF-16 and UTF-32 a character begins at a multiple of this. */
const alignBytes = 4;

/** A whole file. @throws TarsError when it is none, or larger than `bytesMax` */
export const readWhole = (path: string, bytesMax: number, signal: AbortSignal): Promise<Uint8Array> =>
  read(path, bytesMax, true, signal);

/** The last `bytesMax` bytes of a file at most. @throws TarsError when it is none */
export const readEnd = (path: string, bytesMax: number, signal: AbortSignal): Promise<Uint8Array> =>
  read(path, bytesMax, false, signal);

async function read(
  path: string,
  bytesMax: number,
  isWhole: boolean,
  signal: AbortSignal,
): Promise<Uint8Array> {
  try {
    // Without O_NONBLOCK a named pipe would be waited for.
    await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = await handle.stat();
    if (!stats.isFile()) throw new TarsError('configuration', `${path} is not a regular file`);
    if (isWhole && stats.size > bytesMax)
      throw new TarsError('configuration', `${path} is larger than ${bytesMax} bytes`);
    const from = Math.ceil(Math.max(0, stats.size - bytesMax) / alignBytes) * alignBytes;
    const bytes = Buffer.alloc(Math.min(bytesMax, stats.size - from));
    let done = 0;
    while (done < bytes.byteLength) {
      throwIfAborted(signal);
      const { bytesRead } = await handle.read(bytes, done, bytes.byteLength - done, from + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return bytes.subarray(0, done);
  } catch (error) {
    throw toTarsError(error, `Cannot read ${path}`);
  }
}
