import { createHash } from 'node:crypto';
import { throwIfAborted } from '../../model/abort.ts';
import { TarsError } from '../../model/errors.ts';
import type { Bytes } from '../../ports/artifacts.ts';
import { ByteQueue } from './byte-queue.ts';
import { Chunker } from '../chunker/chunker.ts';
import type { GearTable } from '../chunker/gear.ts';
import type { ChunkParameters } from '../chunker/parameters.ts';
import type { SealPool } from '../seal/pool.ts';

/** Bytes that go to a worker at a time, where chunks are smaller. */
const batchBytes = 2 << 20;

/** Up to this a body that is one chunk goes to the workers with others. */
const smallMaxBytes = 128 << 10;

/** How a body is cut and stored. */
interface BodyOptions {
  /** For messages. */
  readonly path: string;
  readonly parameters: ChunkParameters;
  readonly gearTable: GearTable;
  readonly compress: boolean;
  /** A body of another length is an error. */
  readonly expectedBytes: number | undefined;
  readonly signal: AbortSignal;
}

/** What became of a body; its blobs may still be on their way into packs. */
interface StoredBody {
  readonly sizeBytes: number;
  /** Of all bytes, 64 hex digits. */
  readonly sha256: string;
  /** The blobs, 32 bytes each. */
  readonly content: Buffer;
}

/**
 * Cuts a body into chunks and has them stored. Resolves when their ids are known; packs are finished later.
 * @throws TarsError `capture-failed` when the body has another length than announced
 */
export async function storeBody(body: Bytes, pool: SealPool, options: BodyOptions): Promise<StoredBody> {
  const hash = createHash('sha256');
  const batches = new BatchWriter(pool, options);
  let sizeBytes = 0;
  for await (const piece of body) {
    throwIfAborted(options.signal);
    sizeBytes += piece.length;
    if (options.expectedBytes !== undefined && sizeBytes > options.expectedBytes) break;
    hash.update(piece);
    await batches.add(piece);
  }
  requireLength(sizeBytes, options);
  const digest = hash.digest();
  return { sizeBytes, sha256: digest.toString('hex'), content: await batches.finish(digest) };
}

function requireLength(sizeBytes: number, { path, expectedBytes }: BodyOptions): void {
  if (expectedBytes === undefined || sizeBytes === expectedBytes) return;
  const found = sizeBytes > expectedBytes ? 'more' : `${sizeBytes}`;
  throw new TarsError('capture-failed', `${path} should have ${expectedBytes} bytes but has ${found}`, {
    hint: 'It changed while it was read; run the backup again.',
  });
}

/** Collects bytes, cuts them in a slot shared with the workers, and hands over batches of whole chunks. */
class BatchWriter {
  readonly #pool: SealPool;
  readonly #compress: boolean;
  readonly #chunker: Chunker;
  readonly #queue = new ByteQueue();
  readonly #ids: Promise<Uint8Array>[] = [];

  constructor(pool: SealPool, { parameters, gearTable, compress }: BodyOptions) {
    this.#pool = pool;
    this.#compress = compress;
    this.#chunker = new Chunker(parameters, gearTable);
  }

  async add(piece: Uint8Array): Promise<void> {
    this.#queue.push(piece);
    while (this.#queue.lengthBytes >= Math.max(batchBytes, this.#chunker.lookaheadBytes)) {
      await this.#submit(false);
    }
  }

  /**
   * The ids of all chunks. A small file that is one chunk has the hash of its bytes for an id, and waits for no worker.
   * @param digest SHA-256 of the whole body
   */
  async finish(digest: Buffer): Promise<Buffer> {
    const whole = this.#smallWhole();
    if (whole) {
      await this.#pool.addSmall(whole);
      return digest;
    }
    while (this.#queue.lengthBytes > 0) await this.#submit(true);
    return Buffer.concat(await Promise.all(this.#ids));
  }

  #smallWhole(): Uint8Array | undefined {
    const { lengthBytes } = this.#queue;
    if (!this.#compress || this.#ids.length > 0 || lengthBytes === 0 || lengthBytes > smallMaxBytes) return;
    const bytes = new Uint8Array(lengthBytes);
    this.#queue.copyTo(bytes);
    if (this.#chunker.cut(bytes, 0, lengthBytes) < lengthBytes) return;
    this.#queue.drop(lengthBytes);
    return bytes;
  }

  /** No slot is held while anybody waits for more bytes: whoever has one can go on. */
  async #submit(final: boolean): Promise<void> {
    const slot = await this.#pool.acquireSlot();
    const available = this.#queue.copyTo(slot.bytes);
    // Bytes that are still to come may belong to the last chunk here.
    const isLast = final && available === this.#queue.lengthBytes;
    const chunkBytes: number[] = [];
    let cut = 0;
    while (cut < available && (isLast || available - cut >= this.#chunker.lookaheadBytes)) {
      const length = this.#chunker.cut(slot.bytes, cut, available);
      chunkBytes.push(length);
      cut += length;
    }
    this.#queue.drop(cut);
    const ids = this.#pool.submit(slot, chunkBytes, this.#compress);
    // Failures are reported by whoever waits for the pool first; finish() may never be reached.
    ids.catch(() => undefined);
    this.#ids.push(ids);
  }
}
