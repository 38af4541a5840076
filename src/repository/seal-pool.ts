import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { CorruptionError, TarsError } from '../model/errors.ts';
import { chunkMaxBytes } from './chunker/parameters.ts';
import type { KeyMaterial } from './format/crypto.ts';
import { packMaxBytes, type FinishedPack } from './pack-builder.ts';
import type { FromWorker, ToWorker, WorkerSettings } from './seal-protocol.ts';

/** More workers would need more memory than the process may have, and storage is the bound by then. */
const workersMax = 3;
/** One is filled while the other one is being stored. */
const packBuffersPerWorker = 2;
/** A slot is filled, hashed or sealed; two for each worker keep it busy. */
const slotsPerWorker = 2;
/** Heap limits, so that garbage is collected long before it counts. */
const workerLimits = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 96 };

/** A buffer shared with the workers; filled by its holder, then submitted or released. */
export interface Slot {
  readonly number: number;
  /** {@link chunkMaxBytes} long. */
  readonly bytes: Uint8Array;
}

export interface SealPoolOptions {
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
 * places bytes can be, and their number is fixed. The first failure fails everything.
 */
export class SealPool implements AsyncDisposable {
  readonly #options: SealPoolOptions;
  readonly #members: Member[];
  readonly #freeSlots: Slot[];
  readonly #slotWaiters: ((slot: Slot) => void)[] = [];
  readonly #batches = new Map<number, Batch>();
  readonly #stores = new Set<Promise<void>>();
  readonly #failure = Promise.withResolvers<never>();
  #idleWaiter: (() => void) | undefined;
  #nextBatch = 0;
  #closed = false;

  constructor(options: SealPoolOptions) {
    this.#options = options;
    // Nobody may be listening when it fails.
    this.#failure.promise.catch(() => undefined);
    const workers = options.workers ?? Math.min(workersMax, availableParallelism());
    const shared = Array.from(
      { length: workers * slotsPerWorker + 1 },
      () => new SharedArrayBuffer(chunkMaxBytes),
    );
    this.#freeSlots = shared.map((buffer, number) => ({ number, bytes: new Uint8Array(buffer) }));
    const settings: WorkerSettings = {
      key: options.key,
      compressionLevel: options.compressionLevel,
      slots: shared,
    };
    this.#members = Array.from({ length: workers }, () => this.#startMember(settings));
  }

  /** Waits for a free slot. Every slot must be submitted or released. */
  async acquireSlot(): Promise<Slot> {
    const free = this.#freeSlots.pop();
    if (free) return free;
    const { promise, resolve } = Promise.withResolvers<Slot>();
    this.#slotWaiters.push(resolve);
    return Promise.race([promise, this.#failure.promise]);
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
    const member = this.#members.reduce((a, b) => (b.batches.size < a.batches.size ? b : a));
    const batch = this.#nextBatch++;
    const { promise, resolve } = Promise.withResolvers<Uint8Array>();
    this.#batches.set(batch, { slot, member, hashed: resolve });
    member.batches.add(batch);
    this.#post(member, {
      type: 'batch',
      batch,
      slot: slot.number,
      chunkBytes: Uint32Array.from(chunkBytes),
      compress,
    });
    return Promise.race([promise, this.#failure.promise]);
  }

  /** Resolves when everything submitted is in packs, and those are stored. */
  async flush(): Promise<void> {
    while (this.#batches.size > 0) {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      this.#idleWaiter = () => resolve(undefined);
      await Promise.race([promise, this.#failure.promise]);
    }
    const flushes = this.#members.map((member) => {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      member.flushed = () => resolve(undefined);
      this.#post(member, { type: 'flush' });
      return promise;
    });
    await Promise.race([Promise.all(flushes), this.#failure.promise]);
    while (this.#stores.size > 0) await Promise.race([Promise.all(this.#stores), this.#failure.promise]);
  }

  /** Rejects everything pending and to come with `reason`. */
  fail(reason: unknown): void {
    this.#failure.reject(reason);
  }

  /** Ends the workers; resolves when packs on their way to storage have arrived or failed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.fail(new TarsError('internal', 'The seal pool is closed'));
    await Promise.all(this.#members.map(({ worker }) => worker.terminate()));
    await Promise.allSettled(this.#stores);
  }

  #startMember(settings: WorkerSettings): Member {
    const entry = import.meta.url.endsWith('.ts') ? './seal-worker.ts' : './seal-worker.js';
    const worker = new Worker(new URL(entry, import.meta.url), {
      workerData: settings,
      resourceLimits: workerLimits,
    });
    const member: Member = { worker, batches: new Set(), flushed: undefined };
    worker.on('message', (message: FromWorker) => this.#receive(member, message));
    worker.on('error', (cause) => this.fail(new TarsError('internal', 'A seal worker failed', { cause })));
    worker.on('exit', (code) => {
      if (!this.#closed) this.fail(new TarsError('internal', `A seal worker ended with code ${code}`));
    });
    for (let i = 0; i < packBuffersPerWorker; i++)
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

  #store(member: Member, pack: FinishedPack, buffer: ArrayBuffer): void {
    const stored = this.#options
      .store(pack, new Uint8Array(buffer, 0, pack.lengthBytes))
      .then(
        () => this.#givePackBuffer(member, buffer),
        (error: unknown) => this.fail(error),
      )
      .finally(() => this.#stores.delete(stored));
    this.#stores.add(stored);
  }

  #givePackBuffer(member: Member, buffer: ArrayBuffer): void {
    this.#post(member, { type: 'pack-buffer', buffer }, [buffer]);
  }

  #post(member: Member, message: ToWorker, transfer: ArrayBuffer[] = []): void {
    member.worker.postMessage(message, transfer);
  }
}
