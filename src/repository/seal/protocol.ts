import type { KeyMaterial } from '../format/crypto.ts';
import type { FinishedPack } from './pack-builder.ts';

/** What the pool and its workers say to each other. Chunk bytes stay in shared slots. */

export interface WorkerSettings {
  readonly key: KeyMaterial;
  /** zstd's; 0 for none. */
  readonly compressionLevel: number;
}

/** What the pool says to a sealing thread. */
export type ToWorker =
  /** Hash the consecutive chunks of these lengths in the slot. */
  | {
      readonly type: 'batch';
      readonly batch: number;
      readonly slot: SharedArrayBuffer;
      readonly chunkBytes: Uint32Array;
      readonly compress: boolean;
    }
  /** Seal the chunks whose byte is 1; the slot may be reused after `sealed`. */
  | { readonly type: 'decision'; readonly batch: number; readonly wanted: Uint8Array }
  /** A buffer for a pack, back from storage or the first time. */
  | { readonly type: 'pack-buffer'; readonly buffer: ArrayBuffer }
  /** Finish the pack under construction. */
  | { readonly type: 'flush' };

/** What a sealing thread answers. `failed` is its last word. */
export type FromWorker =
  | { readonly type: 'hashed'; readonly batch: number; readonly ids: Uint8Array }
  | { readonly type: 'sealed'; readonly batch: number }
  | { readonly type: 'pack'; readonly buffer: ArrayBuffer; readonly pack: FinishedPack }
  | { readonly type: 'flushed' }
  | { readonly type: 'failed'; readonly code: 'corruption' | 'internal'; readonly message: string };
