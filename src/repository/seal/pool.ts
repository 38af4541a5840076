import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { CorruptionError, TarsError, toTarsError } from '../../model/errors.ts';
import { chunkMaxBytes } from '../chunker/parameters.ts';
import type { KeyMaterial } from '../format/crypto.ts';
import { packMaxBytes, type FinishedPack } from './pack-builder.ts';
import type { FromWorker, ToWorker, WorkerSettings } from './protocol.ts';

/** More workers would need more memory than the process may have, and storage is the bound by then. */
const workersMax = 3;
/** Each worker fills one pack; these are for packs that are being stored meanwhile. */
const sparePackBuffers = 1;
/** A slot is filled, hashed or sealed; two for each worker keep it busy. */
const slotsPerWorker = 2;
/** Small chunks go to a worker once they have this many bytes together, or are this many. */
const smallBatchBytes = 1 << 20;
const smallBatchChunks = 2048;
/** Heap limits, so that garbage is collected long before it counts. */
const workerLimits = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 96 };

/** A buffer shared with the workers; filled by its holder, then submitted or released. */
interface Slot {
  readonly buffer: SharedArrayBuffer;
  /** {@link chunkMaxBytes} long. */
  readonly bytes: Uint8Array;
}

/** What a pool seals with, and whom it asks and hands its packs to. */
interface SealPoolOptions {
  readonly key: KeyMaterial;
  /** zstd's; 0 for none. */
  readonly compressionLevel: number;
  /** Default: one for each processor, at most three. */
  readonly workers?: number;
  /** Of the ids (32 bytes each), which must be stored (1)? Asked exactly once for each chunk. */
  readonly decide: (ids: Uint8Array) => Uint8Array;
  /** Stores a pack; the bytes are reused when it resolves. */
  readonly store: (pack: FinishedPack, bytes: Uint8Array) => Promise<void>;
}

interface Member {
  readonly worker: Worker;
  readonly batches: Set<number>;
  flushed: (() => void) | undefined;
}

interface Batch {
  readonly slot: Slot;
  readonly member: Member;
  readonly hashed: (ids: Uint8Array) => void;
}

/**
 * Worker threads that hash, compress, seal and verify chunks and build packs. Slots and pack buffers are the only
 * places bytes can be, and their number has a limit; each is made when it is first needed. The first failure fails
 * everything.
 */
export class SealPool implements AsyncDisposable {
  readonly #options: SealPoolOptions;
  readonly #settings: WorkerSettings;
  readonly #workers: number;
  readonly #members: Member[] = [];
  readonly #freeSlots: Slot[] = [];
  #slotsLeft: number;
  readonly #slotWaiters: ((slot: Slot) => void)[] = [];
  readonly #batches = new Map<number, Batch>();
  readonly #stores = new Set<Promise<void>>();
  /** Rejecters of everything that waits. A race with one promise for all would keep every loser alive. */
  readonly #waiting = new Set<(reason: unknown) => void>();
  #failure: { readonly reason: unknown } | undefined;
  readonly #spareBuffers: ArrayBuffer[] = [];
  #sparesLeft = sparePackBuffers;
  /** Workers whose pack buffer is being stored. */
  readonly #starving: Member[] = [];
  #idleWaiter: (() => void) | undefined;
  readonly #small = new SmallChunks();
  #nextBatch = 0;
  #closed = false;

  constructor(options: SealPoolOptions) {
    this.#options = options;
    this.#workers = options.workers ?? Math.min(workersMax, availableParallelism());
    this.#slotsLeft = this.#workers * slotsPerWorker + 1;
    this.#settings = { key: options.key, compressionLevel: options.compressionLevel };
  }

  /** Waits for a free slot. Every slot must be submitted or released. */
  acquireSlot(): Promise<Slot> {
    return this.#wait((resolve) => {
      const free = this.#freeSlots.pop() ?? this.#newSlot();
      if (free) resolve(free);
      else this.#slotWaiters.push(resolve);
    });
  }

  /** Undefined when there are as many as there may be. */
  #newSlot(): Slot | undefined {
    if (this.#slotsLeft === 0) return undefined;
    this.#slotsLeft--;
    const buffer = new SharedArrayBuffer(chunkMaxBytes);
    return { buffer, bytes: new Uint8Array(buffer) };
  }

  releaseSlot(slot: Slot): void {
    const waiter = this.#slotWaiters.shift();
    if (waiter) waiter(slot);
    else this.#freeSlots.push(slot);
  }

  /**
   * Hands over the consecutive chunks of the slot. Resolves with their ids as soon as those are known; what is new
   * is sealed behind that, and the slot released then.
   */
  submit(slot: Slot, chunkBytes: readonly number[], compress: boolean): Promise<Uint8Array> {
    const batch = this.#nextBatch++;
    return this.#wait((resolve) => {
      const member = this.#leastBusy();
      this.#batches.set(batch, { slot, member, hashed: resolve });
      member.batches.add(batch);
      this.#post(member, {
        type: 'batch',
        batch,
        slot: slot.buffer,
        chunkBytes: Uint32Array.from(chunkBytes),
        compress,
      });
    });
  }

  /**
   * Takes in a small chunk, to be compressed, whose id the caller knows. Many of them go to a worker together; resolves
   * when there is room for the next.
   */
  async addSmall(chunk: Uint8Array): Promise<void> {
    this.#small.add(chunk);
    if (this.#small.isFull) await this.#submitSmall();
  }

  async #submitSmall(): Promise<void> {
    const { bytes, chunkBytes } = this.#small.take();
    if (chunkBytes.length === 0) return;
    const slot = await this.acquireSlot();
    slot.bytes.set(bytes);
    const ids = this.submit(slot, chunkBytes, true);
    // Failures are reported by whoever waits for the pool next.
    ids.catch(() => undefined);
  }

  /** Resolves when everything submitted is in packs, and those are stored. */
  async flush(): Promise<void> {
    await this.#submitSmall();
    while (this.#batches.size > 0) {
      await this.#wait<undefined>((resolve) => {
        this.#idleWaiter = () => resolve(undefined);
      });
    }
    for (const member of this.#members) {
      await this.#wait<undefined>((resolve) => {
        member.flushed = () => resolve(undefined);
        this.#post(member, { type: 'flush' });
      });
    }
    while (this.#stores.size > 0) await Promise.all(this.#stores);
    if (this.#failure) throw asError(this.#failure.reason);
  }

  /** Rejects everything pending and to come with `reason`. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const reject of this.#waiting) reject(asError(this.#failure.reason));
    this.#waiting.clear();
  }

  #wait<T>(start: (resolve: (value: T) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#failure) {
        reject(asError(this.#failure.reason));
        return;
      }
      this.#waiting.add(reject);
      start((value) => {
        this.#waiting.delete(reject);
        resolve(value);
      });
    });
  }

  /** Ends the workers; resolves when packs on their way to storage have arrived or failed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.fail(new TarsError('internal', 'The seal pool is closed'));
    await Promise.all(this.#members.map(({ worker }) => worker.terminate()));
    await Promise.allSettled(this.#stores);
  }

  /** Starts another one only when all have something to do: a small snapshot needs one. */
  #leastBusy(): Member {
    const least = this.#members.toSorted((a, b) => a.batches.size - b.batches.size)[0];
    if (least !== undefined && (least.batches.size === 0 || this.#members.length === this.#workers))
      return least;
    const started = this.#startMember();
    this.#members.push(started);
    return started;
  }

  #startMember(): Member {
    const entry = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js';
    const worker = new Worker(new URL(entry, import.meta.url), {
      workerData: this.#settings,
      resourceLimits: workerLimits,
    });
    const member: Member = { worker, batches: new Set(), flushed: undefined };
    worker.on('message', (message: FromWorker) => this.#receive(member, message));
    worker.on('error', (cause) => this.fail(new TarsError('internal', 'A seal worker failed', { cause })));
    worker.on('exit', (code) => {
      if (!this.#closed) this.fail(new TarsError('internal', `A seal worker ended with code ${code}`));
    });
    this.#givePackBuffer(member, new ArrayBuffer(packMaxBytes));
    return member;
  }

  #receive(member: Member, message: FromWorker): void {
    switch (message.type) {
      case 'hashed':
        this.#decide(member, message.batch, message.ids);
        return;
      case 'sealed':
        this.#release(message.batch);
        return;
      case 'pack':
        this.#store(member, message.pack, message.buffer);
        return;
      case 'flushed':
        member.flushed?.();
        return;
      case 'failed':
        this.fail(
          message.code === 'corruption'
            ? new CorruptionError(message.message, { hint: 'Check the memory of this machine.' })
            : new TarsError('internal', `A seal worker failed: ${message.message}`),
        );
        return;
      default:
        message satisfies never;
    }
  }

  #decide(member: Member, batch: number, ids: Uint8Array): void {
    const wanted = this.#options.decide(ids);
    this.#batches.get(batch)?.hashed(ids);
    this.#post(member, { type: 'decision', batch, wanted });
  }

  #release(number: number): void {
    const batch = this.#batches.get(number);
    if (!batch) return;
    this.#batches.delete(number);
    batch.member.batches.delete(number);
    this.releaseSlot(batch.slot);
    if (this.#batches.size === 0) this.#idleWaiter?.();
  }

  /** Hands a buffer to the worker that has been without one for the longest time. */
  #recyclePackBuffer(buffer: ArrayBuffer): void {
    const member = this.#starving.shift();
    if (member) this.#givePackBuffer(member, buffer);
    else this.#spareBuffers.push(buffer);
  }

  #store(member: Member, pack: FinishedPack, buffer: ArrayBuffer): void {
    this.#starving.push(member);
    const spare = this.#spareBuffers.pop() ?? this.#newSpare();
    if (spare) this.#recyclePackBuffer(spare);
    const stored = this.#options
      .store(pack, new Uint8Array(buffer, 0, pack.lengthBytes))
      .then(
        () => this.#recyclePackBuffer(buffer),
        (error: unknown) => this.fail(error),
      )
      .finally(() => this.#stores.delete(stored));
    this.#stores.add(stored);
  }

  #newSpare(): ArrayBuffer | undefined {
    if (this.#sparesLeft === 0) return undefined;
    this.#sparesLeft--;
    return new ArrayBuffer(packMaxBytes);
  }

  #givePackBuffer(member: Member, buffer: ArrayBuffer): void {
    this.#post(member, { type: 'pack-buffer', buffer }, [buffer]);
  }

  #post(member: Member, message: ToWorker, transfer: ArrayBuffer[] = []): void {
    member.worker.postMessage(message, transfer);
  }
}

/** Chunks that wait to be handed over together. */
class SmallChunks {
  #chunks: Uint8Array[] = [];
  #lengthBytes = 0;

  get isFull(): boolean {
    return this.#lengthBytes >= smallBatchBytes || this.#chunks.length >= smallBatchChunks;
  }

  add(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#lengthBytes += chunk.length;
  }

  take(): { readonly bytes: Uint8Array; readonly chunkBytes: readonly number[] } {
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#lengthBytes = 0;
    return { bytes: Buffer.concat(chunks), chunkBytes: chunks.map(({ length }) => length) };
  }
}

function asError(reason: unknown): Error {
  return toTarsError(reason, 'Storing chunks failed');
}
