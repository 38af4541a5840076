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
const indexSchema = z.object({
  packs: z.array(packSchema).nullable(),
  // restic passes over members that it does not know.
  tars: z
    .object({ damaged: z.array(idSchema) })
    .optional()
    .catch(undefined),
});
/** Before 2015 an index was the bare list of packs. */
const oldIndexSchema = z.array(packSchema);

/** What an index file says. */
export interface IndexFile {
  readonly packs: readonly IndexedPack[];
  /** Ids of packs that a check found damaged. */
  readonly damaged: readonly string[];
}

/** An index file that lists no pack, and says which ones are damaged. */
export function encodeDamagedPacks(ids: readonly string[]): string {
  return `${JSON.stringify({ packs: [], tars: { damaged: ids } })}\n`;
}

/** Put together by hand: an index has up to 50,000 blobs, and nothing in it needs escaping. */
export function encodeIndex(packs: readonly IndexedPack[]): string {
  return `{"packs":[${packs.map(encodePack).join(',')}]}\n`;
}

function encodePack({ id, blobs }: IndexedPack): string {
  const parts: string[] = [];
  for (let at = 0; at < blobs.length; at += blobsAtOnce) {
    parts.push(
      blobs
        .slice(at, at + blobsAtOnce)
        .map(encodeBlob)
        .join(','),
    );
  }
  return `{"id":"${id}","blobs":[${parts.join(',')}]}`;
}

/** Put together at once: each of them takes three times its length while it is not. */
const blobsAtOnce = 500;

function encodeBlob({ id, type, offsetBytes, lengthBytes, uncompressedBytes }: PackedBlob): string {
  const uncompressed = uncompressedBytes === undefined ? '' : `,"uncompressed_length":${uncompressedBytes}`;
  return `{"id":"${id}","type":"${type}","offset":${offsetBytes},"length":${lengthBytes}${uncompressed}}`;
}

/** @throws CorruptionError when it is no index */
export const decodeIndex = (json: string, name: string): readonly IndexedPack[] =>
  decodeIndexFile(json, name).packs;

/** @throws CorruptionError when it is no index */
export function decodeIndexFile(json: string, name: string): IndexFile {
  let packs: z.infer<typeof oldIndexSchema>;
  let damaged: readonly string[] = [];
  try {
    const value: unknown = JSON.parse(json);
    if (Array.isArray(value)) packs = oldIndexSchema.parse(value);
    else {
      const index = indexSchema.parse(value);
      packs = index.packs ?? [];
      damaged = index.tars?.damaged ?? [];
    }
  } catch (cause) {
    throw new CorruptionError(`Index ${name} is not valid`, { cause });
  }
  return { packs: packs.map(toIndexedPack), damaged };
}

function toIndexedPack({ id, blobs }: z.infer<typeof packSchema>): IndexedPack {
  return {
    id,
    blobs: (blobs ?? []).map((blob) => ({
      id: blob.id,
      type: blob.type,
      offsetBytes: blob.offset,
      lengthBytes: blob.length,
      uncompressedBytes: blob.uncompressed_length === 0 ? undefined : blob.uncompressed_length,
    })),
  };
}
