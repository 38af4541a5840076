import { z } from 'zod';
import { metadataOf, parseLosslessJson, type ChromaRecord, type Metadata } from '../record.ts';
import { memberTexts } from './json-members.ts';
import { metadataText, type FloatSpelling } from './metadata-json.ts';

const idsSchema = z.array(z.string());
const textsSchema = z.array(z.string().nullable());

/**
 * The records of a `get` answer. Vectors go through plain `JSON.parse` (they are most of the text), metadata through
 * the lossless one. A vector with a component that JSON cannot carry (NaN, infinity: sent as `null`) cannot be told
 * any more and counts as missing.
 * @throws SyntaxError | ZodError when the answer is none
 */
export function parseRecords(text: string): readonly ChromaRecord[] {
  const members = memberTexts(text);
  const column = (key: string): unknown => JSON.parse(members.get(key) ?? 'null') as unknown;
  const ids = idsSchema.parse(column('ids'));
  const documents = textsSchema.nullable().parse(column('documents'));
  const uris = textsSchema.nullable().parse(column('uris'));
  const metadatas = z
    .array(z.unknown())
    .nullable()
    .parse(parseLosslessJson(members.get('metadatas') ?? 'null'));
  const embeddings = column('embeddings') as readonly (readonly (number | null)[] | null)[] | null;
  return ids.map((id, i) => ({
    id,
    document: documents?.[i] ?? null,
    uri: uris?.[i] ?? null,
    metadata: metadataOrEmpty(metadatas?.[i]),
    vector: vectorOf(embeddings?.[i]),
  }));
}

const metadataOrEmpty = (value: unknown): Metadata => (value == null ? new Map() : metadataOf(value));

/** The server writes each float32 with the fewest digits that identify it, which rounds back to the same bits. */
function vectorOf(components: readonly (number | null)[] | null | undefined): Float32Array | null {
  if (components == null) return null;
  const vector = new Float32Array(components.length);
  for (const [i, component] of components.entries()) {
    if (component === null) return null;
    vector[i] = component;
  }
  return vector.every(Number.isFinite) ? vector : null;
}

/** One record of an `add` request: the JSON text of each of its columns. */
export interface EncodedRecord {
  readonly id: string;
  readonly embedding: string;
  readonly document: string;
  readonly uri: string;
  readonly metadata: string;
  readonly sizeBytes: number;
}

/** How the target reads what is sent to it. */
interface RequestEncoding {
  /** Vectors as base64 of little-endian float32 (a third of the length, bit-exact) or as numbers. */
  readonly base64Embeddings: boolean;
  readonly spell: FloatSpelling;
}

/** @throws CorruptionError when a float cannot be carried */
export function encodeRecord(
  record: ChromaRecord & { readonly vector: Float32Array },
  encoding: RequestEncoding,
): EncodedRecord {
  const { vector } = record;
  const texts = {
    id: JSON.stringify(record.id),
    embedding: encoding.base64Embeddings ? `"${base64OfVector(vector)}"` : `[${vector.join(',')}]`,
    document: JSON.stringify(record.document),
    uri: JSON.stringify(record.uri),
    metadata: metadataText(record.metadata, encoding.spell),
  };
  const separators = 5;
  const sizeBytes = Object.values(texts).reduce((sum, text) => sum + Buffer.byteLength(text), separators);
  return { ...texts, sizeBytes };
}

/** The body of an `add` request. */
export function addBody(records: readonly EncodedRecord[]): string {
  const column = (name: string, text: (record: EncodedRecord) => string): string =>
    `"${name}":[${records.map(text).join(',')}]`;
  return `{${[
    column('ids', ({ id }) => id),
    column('embeddings', ({ embedding }) => embedding),
    column('documents', ({ document }) => document),
    column('uris', ({ uri }) => uri),
    column('metadatas', ({ metadata }) => metadata),
  ].join(',')}}`;
}

/** Little-endian float32, as every platform Node runs on keeps them. */
export function base64OfVector(vector: Float32Array): string {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64');
}

/** The reverse of {@link base64OfVector}. @throws SyntaxError when the length is not that of float32s */
export function vectorOfBase64(text: string): Float32Array {
  const bytes = Uint8Array.from(Buffer.from(text, 'base64'));
  if (bytes.length % 4 !== 0) throw new SyntaxError('An embedding is not a sequence of float32 values');
  return new Float32Array(bytes.buffer);
}
