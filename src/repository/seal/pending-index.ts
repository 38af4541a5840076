import type { Clock } from '../../ports/context.ts';
import type { BlobIndex } from '../blobs/blob-index.ts';
import { encodeIndex } from '../format/index-file.ts';
import type { OpenedRepository } from '../open.ts';
import type { FinishedPack } from './pack-builder.ts';

/** An index file is written when this many blobs wait for one; restic does the same. */
export const blobsMax = 50_000;
/** Packs an interrupted run stored since its last index file are stored again by the next run: no more than this time's. */
const ageMaxMs = 5 * 60_000;
/**
 * Nor more than this many bytes, or this share of all the run has stored where that is more: large blobs are few and
 * fast, so that neither of the above would ever come. A share, so that index files stay few however much is stored.
 */
const waitingMinBytes = 256 << 20;
const waitingShare = 1 / 8;

/** Packs that are stored, but not in any index file yet. */
export class PendingIndex {
  readonly #repository: OpenedRepository;
  readonly #index: BlobIndex;
  readonly #clock: Clock;
  #packs: FinishedPack[] = [];
  #blobs = 0;
  #waitingBytes = 0;
  #storedBytes = 0;
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
    this.#waitingBytes += pack.lengthBytes;
    this.#storedBytes += pack.lengthBytes;
    if (this.#isDue()) await this.save(signal);
  }

  #isDue(): boolean {
    return (
      this.#blobs >= blobsMax ||
      this.#clock.monotonicMs() - this.#savedAtMs >= ageMaxMs ||
      this.#waitingBytes >= Math.max(waitingMinBytes, this.#storedBytes * waitingShare)
    );
  }

  /** Writes what waits. One file at a time; when it fails the packs wait on. */
  save(signal: AbortSignal): Promise<void> {
    this.#saving = this.#saving.catch(() => undefined).then(() => this.#saveNow(signal));
    return this.#saving;
  }

  async #saveNow(signal: AbortSignal): Promise<void> {
    const packs = this.#packs;
    if (packs.length === 0) return;
    // Packs that arrive meanwhile wait for the next file, and are counted from nothing.
    this.#setWaiting([]);
    this.#savedAtMs = this.#clock.monotonicMs();
    try {
      await this.#repository.saveUnpacked('index', encodeIndex(packs), signal);
    } catch (error) {
      this.#setWaiting([...packs, ...this.#packs]);
      throw error;
    }
  }

  #setWaiting(packs: FinishedPack[]): void {
    this.#packs = packs;
    this.#blobs = packs.reduce((sum, pack) => sum + pack.blobs.length, 0);
    this.#waitingBytes = packs.reduce((sum, pack) => sum + pack.lengthBytes, 0);
  }
}
