import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { CorruptionError, isSystemError, messageOf, toTarsError } from '../../model/errors.ts';
import type { Bytes } from '../../ports/artifacts.ts';

const readBufferBytes = 1 << 20;

/** A blob that cannot be read, or whose bytes are not what its name says. It costs the models that need it. */
export class BlobError extends CorruptionError {}

/**
 * Hands `body` on and fails after its last byte when the SHA-256 is not `sha256`, so that nothing downstream
 * completes with wrong bytes.
 * @throws BlobError
 */
export async function* verifiedBytes(body: Bytes, sha256: string, where: string): Bytes {
  const hash = createHash('sha256');
  for await (const chunk of body) {
    hash.update(chunk);
    yield chunk;
  }
  const actual = hash.digest('hex');
  if (actual !== sha256)
    throw new BlobError(`${where} is damaged: its SHA-256 is ${actual}`, {
      hint: 'Remove the model with "ollama rm" and pull or create it again.',
    });
}

/** The bytes behind an open file, also when its name is gone by now; fresh buffers of up to 1 MiB. */
export async function* handleBytes(handle: FileHandle, path: string, signal: AbortSignal): Bytes {
  const stream = handle.createReadStream({
    start: 0,
    autoClose: false,
    highWaterMark: readBufferBytes,
    signal,
  });
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    if (!signal.aborted && isSystemError(error)) throw unreadableBlob(path, error);
    throw toTarsError(error, `Cannot read ${path}`);
  } finally {
    stream.destroy();
  }
}

/** Of a blob that is there. */
export const unreadableBlob = (file: string, cause: unknown): BlobError =>
  new BlobError(`its blob ${file} cannot be read: ${messageOf(cause)}`, {
    hint: 'Check its owner and mode, and the disk.',
    cause,
  });

/** SHA-256 of everything in `body`, lower-case hex. */
export async function sha256Of(body: Bytes, onBytes: (bytes: number) => void): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of body) {
    hash.update(chunk);
    onBytes(chunk.byteLength);
  }
  return hash.digest('hex');
}
