import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { CorruptionError, messageOf } from '../../model/errors.ts';
import { SealingKey } from '../format/crypto.ts';
import { PackBuilder } from './pack-builder.ts';
import type { FromWorker, ToWorker, WorkerSettings } from './protocol.ts';

/** One worker: hashes batches as they come, seals what is wanted in order, hands over finished packs. */

const settings = workerData as WorkerSettings;
const builder = new PackBuilder(new SealingKey(settings.key), 'data', settings.compressionLevel);

interface Batch {
  readonly chunks: readonly Buffer[];
  readonly ids: Uint8Array;
  readonly compress: boolean;
}

const batches = new Map<number, Batch>();
const freeBuffers: ArrayBuffer[] = [];
let bufferArrived: (() => void) | undefined;
let packBuffer: ArrayBuffer | undefined;
/** Sealing waits for pack buffers; hashing does not wait for sealing. */
let sealing: Promise<void> = Promise.resolve();

function post(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer);
}

function hashBatch(message: Extract<ToWorker, { type: 'batch' }>): void {
  const slot = Buffer.from(message.slot);
  const ids = new Uint8Array(message.chunkBytes.length * 32);
  const chunks: Buffer[] = [];
  let start = 0;
  for (const length of message.chunkBytes) {
    const chunk = slot.subarray(start, start + length);
    ids.set(createHash('sha256').update(chunk).digest(), chunks.length * 32);
    chunks.push(chunk);
    start += length;
  }
  batches.set(message.batch, { chunks, ids, compress: message.compress });
  post({ type: 'hashed', batch: message.batch, ids });
}

async function sealBatch(number: number, wanted: Uint8Array): Promise<void> {
  const batch = batches.get(number);
  if (!batch) throw new RangeError(`No batch ${number}`);
  batches.delete(number);
  for (const [i, chunk] of batch.chunks.entries()) {
    if (wanted[i] !== 1) continue;
    if (builder.isFullFor(chunk.length)) finishPack();
    packBuffer ??= await nextBuffer();
    builder.add(Buffer.from(packBuffer), batch.ids.subarray(i * 32, i * 32 + 32), chunk, batch.compress);
  }
  post({ type: 'sealed', batch: number });
}

async function nextBuffer(): Promise<ArrayBuffer> {
  for (;;) {
    const buffer = freeBuffers.pop();
    if (buffer) return buffer;
    await new Promise<void>((resolve) => {
      bufferArrived = resolve;
    });
  }
}

function finishPack(): void {
  if (builder.isEmpty || !packBuffer) return;
  const buffer = packBuffer;
  packBuffer = undefined;
  const pack = builder.finish(Buffer.from(buffer));
  post({ type: 'pack', buffer, pack }, [buffer]);
}

function enqueue(job: () => Promise<void> | void): void {
  sealing = sealing.then(job).catch(fail);
}

function fail(error: unknown): void {
  post({
    type: 'failed',
    code: error instanceof CorruptionError ? 'corruption' : 'internal',
    message: messageOf(error),
  });
}

function receive(message: ToWorker): void {
  switch (message.type) {
    case 'batch':
      hashBatch(message);
      return;
    case 'decision':
      enqueue(() => sealBatch(message.batch, message.wanted));
      return;
    case 'pack-buffer':
      freeBuffers.push(message.buffer);
      bufferArrived?.();
      return;
    case 'flush':
      enqueue(() => {
        finishPack();
        post({ type: 'flushed' });
      });
      return;
    default:
      message satisfies never;
  }
}

parentPort?.on('message', (message: ToWorker) => {
  try {
    receive(message);
  } catch (error) {
    fail(error);
  }
});
