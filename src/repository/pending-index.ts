import type { Clock } from '../ports/context.ts';
import type { BlobIndex } from './blob-index.ts';
import { encodeIndex } from './format/index-file.ts';
import type { OpenedRepository } from './open.ts';
import type { FinishedPack } from './pack-builder.ts';

/** An index file is written when so many blobs wait for one; restic does the same. */
const blobsMax = 50_000;
/** What an interrupted run loses at most: packs stored in this time are stored again by the next run. */
const ageMaxMs = 5 * 60_000;

/** Packs that are stored, but not in any index file yet. */
export class PendingIndex {
  readonly #repository: OpenedRepository;
  readonly #index: BlobIndex;
  readonly #clock: Clock;
  #packs: FinishedPack[] = [];
  #blobs = 0;
  #savedAtMs: number;
  #saving: Promise<void> = Promise.resolve();

  constructor(repository: OpenedRepository, index: BlobIndex, clock: Clock) {
    this.#repository = repository;
    this.#index = index;
    this.#clock = clock;
    this.#savedAtMs = clock.monotonicMs();
  }

  /** Takes in a pack that is stored durably. Writes an index file when it is time. */
  async add(pack: FinishedPack, signal: AbortSignal): Promise<void> {
    this.#index.addPack(pack);
    this.#packs.push(pack);
    this.#blobs += pack.blobs.length;
    const ageMs = this.#clock.monotonicMs() - this.#savedAtMs;
    if (this.#blobs >= blobsMax || ageMs >= ageMaxMs) await this.save(signal);
  }

  /** Writes what waits. One file at a time; when it fails the packs wait on. */
  save(signal: AbortSignal): Promise<void> {
    this.#saving = this.#saving.catch(() => undefined).then(() => this.#saveNow(signal));
    return this.#saving;
  }

  async #saveNow(signal: AbortSignal): Promise<void> {
    const packs = this.#packs;
    if (packs.length === 0) return;
    this.#packs = [];
    try {
      await this.#repository.saveUnpacked('index', encodeIndex(packs), signal);
    } catch (error) {
      this.#packs = [...packs, ...this.#packs];
      throw error;
    }
    this.#blobs = this.#packs.reduce((sum, pack) => sum + pack.blobs.length, 0);
    this.#savedAtMs = this.#clock.monotonicMs();
  }
}
