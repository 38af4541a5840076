import { TarsError } from '../model/errors.ts';
import type { Bytes } from '../ports/artifacts.ts';

/**
 * Passes `body` on, showing each chunk to `see`.
 * @throws TarsError `capture-failed` when it is not exactly `sizeBytes` long
 */
export async function* exactBody(
  path: string,
  body: Bytes,
  sizeBytes: number,
  see: (chunk: Uint8Array) => void,
): Bytes {
  let doneBytes = 0;
  for await (const chunk of body) {
    doneBytes += chunk.byteLength;
    if (doneBytes > sizeBytes) break;
    see(chunk);
    yield chunk;
  }
  if (doneBytes !== sizeBytes) throw lengthError(path, sizeBytes);
}

function lengthError(path: string, sizeBytes: number): TarsError {
  return new TarsError(
    'capture-failed',
    `${path} changed its length while it was read (expected ${sizeBytes} bytes)`,
    {
      hint: 'Run the backup again when nothing writes to it.',
    },
  );
}

/** Closes a body that may not have been started; harmless for one that has ended. */
export async function closeBytes(body: Bytes): Promise<void> {
  await body[Symbol.asyncIterator]().return?.();
}

/** The body of an entry that has none, such as a directory. */
// eslint-disable-next-line @typescript-eslint/require-await -- no bytes to wait for
export async function* noBytes(): Bytes {
  yield* [];
}

/** A body of one chunk. */
// eslint-disable-next-line @typescript-eslint/require-await -- the bytes are there
export async function* oneChunk(chunk: Uint8Array): Bytes {
  yield chunk;
}
