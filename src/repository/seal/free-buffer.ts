import { isMarkedAsUntransferable } from 'node:worker_threads';

/** Anything smaller is not worth the trouble. */
const worthFreeingBytes = 4 << 10;

/**
 * Gives a buffer's memory back now instead of at some garbage collection: sealing makes four copies of every byte,
 * and the collector lets hundreds of megabytes of such pass before it looks. The buffer must be the caller's own
 * and not be used again; it is empty afterwards. Buffers from Node's pool share memory and are left alone.
 */
export function freeBuffer(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength < worthFreeingBytes) return;
  if (!isMarkedAsUntransferable(buffer)) buffer.transfer(0);
}
