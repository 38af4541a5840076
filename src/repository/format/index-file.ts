import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';
import type { PackedBlob } from './pack.ts';

/** One pack in an index file (restic `doc/design.rst`, "Indexing"). */
export interface IndexedPack {
  /** 64 hex digits. */
  readonly id: string;
  readonly blobs: readonly PackedBlob[];
}

const idSchema = z.string().regex(/^[0-9a-f]{64}$/);
const lengthSchema = z.number().int().nonnegative().max(0xffffffff);
const blobSchema = z.object({
  id: idSchema,
  type: z.enum(['data', 'tree']),
  offset: lengthSchema,
  length: lengthSchema,
  uncompressed_length: lengthSchema.optional(),
});
const packSchema = z.object({ id: idSchema, blobs: z.array(blobSchema).nullable() });
const indexSchema = z.object({ packs: z.array(packSchema).nullable() });
/** Before 2015 an index was the bare list of packs. */
const oldIndexSchema = z.array(packSchema);

/** Put together by hand: an index has up to 50,000 blobs, and nothing in it needs escaping. */
export function encodeIndex(packs: readonly IndexedPack[]): string {
  return `{"packs":[${packs.map(encodePack).join(',')}]}\n`;
}

function encodePack({ id, blobs }: IndexedPack): string {
  return `{"id":"${id}","blobs":[${blobs.map(encodeBlob).join(',')}]}`;
}

function encodeBlob({ id, type, offsetBytes, lengthBytes, uncompressedBytes }: PackedBlob): string {
  const uncompressed = uncompressedBytes === undefined ? '' : `,"uncompressed_length":${uncompressedBytes}`;
  return `{"id":"${id}","type":"${type}","offset":${offsetBytes},"length":${lengthBytes}${uncompressed}}`;
}

/** @throws CorruptionError when it is no index */
export function decodeIndex(json: string, name: string): IndexedPack[] {
  let packs: z.infer<typeof oldIndexSchema>;
  try {
    const value: unknown = JSON.parse(json);
    packs = Array.isArray(value) ? oldIndexSchema.parse(value) : (indexSchema.parse(value).packs ?? []);
  } catch (cause) {
    throw new CorruptionError(`Index ${name} is not what it should be`, { cause });
  }
  return packs.map(({ id, blobs }) => ({
    id,
    blobs: (blobs ?? []).map((blob) => ({
      id: blob.id,
      type: blob.type,
      offsetBytes: blob.offset,
      lengthBytes: blob.length,
      uncompressedBytes: blob.uncompressed_length === 0 ? undefined : blob.uncompressed_length,
    })),
  }));
}
