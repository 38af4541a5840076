import { throwIfAborted } from '../../model/abort.ts';
import type { BlobIndex, BlobLocation } from './blob-index.ts';
import { decodeIndex } from '../format/index-file.ts';
import type { BlobType } from '../format/pack.ts';
import type { OpenedRepository } from '../open.ts';

/**
 * Where blobs lie besides the place that a {@link BlobIndex} has for them. What was stored again because a pack is
 * damaged or missing is found here.
 */
export class FurtherCopies {
  readonly #places = new Map<string, BlobLocation[]>();

  /**
   * Reads the index files in `names`.
   * @throws CorruptionError when one is damaged
   */
  static async load(
    repository: OpenedRepository,
    index: BlobIndex,
    names: readonly string[],
    signal: AbortSignal,
  ): Promise<FurtherCopies> {
    const copies = new FurtherCopies();
    for (const name of names) {
      throwIfAborted(signal);
      for (const pack of decodeIndex(await repository.loadUnpacked('index', name, signal), name)) {
        for (const { id, type, ...place } of pack.blobs) {
          if (index.lookup(Buffer.from(id, 'hex'), type)?.packId === pack.id) continue;
          const key = keyOf(id, type);
          copies.#places.set(key, [...(copies.#places.get(key) ?? []), { packId: pack.id, ...place }]);
        }
      }
    }
    return copies;
  }

  /** The places of a blob that the index does not name. */
  of(id: Uint8Array, type: BlobType): readonly BlobLocation[] {
    return this.#places.get(keyOf(Buffer.from(id).toString('hex'), type)) ?? [];
  }
}

const keyOf = (id: string, type: BlobType): string => `${type} ${id}`;
