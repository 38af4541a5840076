import { throwIfAborted } from '../../model/abort.ts';
import { CorruptionError } from '../../model/errors.ts';
import type { OperationContext, ProgressTask } from '../../ports/context.ts';
import { groupIntoRanges, type BlobRange, type WantedBlob } from '../blobs/blob-ranges.ts';
import { loadIndexedPacks } from '../check/indexes.ts';
import type { BlobType, PackedBlob } from '../format/pack.ts';
import { freeBuffer } from '../seal/free-buffer.ts';
import type { OpenedRepository } from '../open.ts';
import { PackBuilder, packMaxBytes } from '../seal/pack-builder.ts';
import type { PendingIndex } from '../seal/pending-index.ts';
import type { DamagedPacks } from './damage.ts';
import type { IndexedContent } from './usage.ts';

/** Header and sealing of a pack that is larger than usual because a single blob is. */
const oversizeSlackBytes = 4096;

interface MovedBlob extends WantedBlob {
  readonly type: BlobType;
  readonly ordinal: number;
}

/** A pack under construction, for one type of blobs. */
interface Lane {
  readonly builder: PackBuilder;
  buffer: Buffer;
}

/** Moves blobs, sealed as they are, from old packs to new ones. Each is opened and hashed before it is stored again. */
export class Repacker {
  readonly #repo: OpenedRepository;
  readonly #content: IndexedContent;
  readonly #needed: Uint8Array;
  readonly #pending: PendingIndex;
  readonly #damaged: DamagedPacks;
  readonly #ctx: OperationContext;
  readonly #lanes: Readonly<Record<BlobType, Lane>>;
  /** Of the new packs. */
  writtenBytes = 0;

  /**
   * @param needed by ordinal: 1 for blobs that must be moved. What was moved is set to 0.
   * @param pending takes in the new packs
   * @param damaged what is not read, as it is known not to be whole
   */
  constructor(
    repo: OpenedRepository,
    content: IndexedContent,
    needed: Uint8Array,
    pending: PendingIndex,
    damaged: DamagedPacks,
    ctx: OperationContext,
  ) {
    this.#repo = repo;
    this.#damaged = damaged;
    this.#content = content;
    this.#needed = needed;
    this.#pending = pending;
    this.#ctx = ctx;
    const lane = (type: BlobType): Lane => ({
      // Nothing is compressed here.
      builder: new PackBuilder(repo.crypto, type, 0),
      buffer: Buffer.alloc(0),
    });
    this.#lanes = { data: lane('data'), tree: lane('tree') };
  }

  /**
   * Moves what is needed out of these packs and stores the new packs.
   * @throws CorruptionError when something that is needed could not be moved
   */
  async repack(packs: ReadonlySet<string>, task: ProgressTask): Promise<void> {
    const open = new Set(packs);
    for (const name of this.#content.names) {
      if (open.size === 0) break;
      for (const { id, blobs } of await loadIndexedPacks(this.#repo, name, this.#ctx.signal)) {
        if (!open.delete(id)) continue;
        await this.#repackOne(id, blobs);
        task.advance(this.#content.packs.get(id)?.sizeBytes ?? 0);
      }
    }
    for (const lane of Object.values(this.#lanes)) await this.#flush(lane);
    const left = this.#needed.reduce((count, bit) => count + bit, 0);
    if (left > 0) throw new CorruptionError(`${left} blobs that snapshots need could not be read`);
  }

  async #repackOne(packId: string, blobs: readonly PackedBlob[]): Promise<void> {
    const ranges = groupIntoRanges(this.#wanted(packId, blobs));
    let next = this.#startLoad(ranges);
    while (next) {
      const { range, loaded } = next;
      const bytes = await loaded;
      next = this.#startLoad(ranges);
      for (const blob of range.blobs) {
        throwIfAborted(this.#ctx.signal);
        const start = blob.location.offsetBytes - range.offsetBytes;
        await this.#move(blob, bytes.subarray(start, start + blob.location.lengthBytes));
      }
      freeBuffer(bytes);
    }
  }

  *#wanted(packId: string, blobs: readonly PackedBlob[]): Generator<MovedBlob> {
    for (const { id: hexId, type, ...place } of blobs) {
      const id = Buffer.from(hexId, 'hex');
      const ordinal = this.#content.index.ordinal(id, type);
      if (ordinal === undefined || this.#needed[ordinal] !== 1) continue;
      if (this.#damaged.get(packId)?.has(ordinal) === true) continue;
      yield { id, type, ordinal, location: { packId, ...place } };
    }
  }

  /** One range is read while the one before is worked on. */
  #startLoad(
    ranges: Iterator<BlobRange<MovedBlob>, undefined>,
  ): { readonly range: BlobRange<MovedBlob>; readonly loaded: Promise<Uint8Array> } | undefined {
    const { value: range } = ranges.next();
    if (range === undefined) return undefined;
    const { packId, offsetBytes, endBytes } = range;
    const place = { offsetBytes, lengthBytes: endBytes - offsetBytes };
    const loaded = this.#repo.storage.load({ type: 'data', name: packId }, place, this.#ctx.signal);
    // The one before may fail first.
    loaded.catch(() => undefined);
    return { range, loaded };
  }

  /** A damaged copy is passed over: there may be another one in a pack to come. */
  async #move({ id, type, ordinal, location }: MovedBlob, sealed: Uint8Array): Promise<void> {
    // Another copy of it in the same pack.
    if (this.#needed[ordinal] !== 1) return;
    const lane = this.#lanes[type];
    if (lane.builder.isFullFor(sealed.length)) await this.#flush(lane);
    const roomBytes = Math.max(packMaxBytes, sealed.length + oversizeSlackBytes);
    if (lane.builder.isEmpty && lane.buffer.length < roomBytes)
      lane.buffer = Buffer.allocUnsafeSlow(roomBytes);
    const hexId = id.toString('hex');
    try {
      const blob = { id: hexId, uncompressedBytes: location.uncompressedBytes };
      lane.builder.addSealed(lane.buffer, blob, sealed, `${type} blob ${hexId} in pack ${location.packId}`);
      this.#needed[ordinal] = 0;
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      this.#ctx.log.warn(error.message);
    }
  }

  async #flush({ builder, buffer }: Lane): Promise<void> {
    if (builder.isEmpty) return;
    const pack = builder.finish(buffer);
    const bytes = buffer.subarray(0, pack.lengthBytes);
    await this.#repo.storage.save({ type: 'data', name: pack.id }, [bytes], this.#ctx.signal);
    this.writtenBytes += pack.lengthBytes;
    await this.#pending.add(pack, this.#ctx.signal);
  }
}
