import { z } from 'zod';
import { CorruptionError, TarsError } from '../../../model/errors.ts';
import type { Bytes } from '../../../ports/artifacts.ts';
import { capturedSpace } from '../facts.ts';
import { decodeMetadata, encodeMetadata, type ChromaRecord } from '../record.ts';
import { spaceSchema } from '../space.ts';
import type { CollectionInfo } from './answers.ts';
import type { KnownSpace } from './collection-settings.ts';
import { base64OfVector, vectorOfBase64 } from './record-json.ts';

const exportFormat = 1;
const maxLineBytes = 500 << 20;

const headerSchema = z.object({
  format: z.number().int(),
  tenant: z.string(),
  database: z.string(),
  id: z.string(),
  name: z.string(),
  /** Canonical JSON (see `encodeMetadata`), as text: readers without 64-bit integers lose nothing either. */
  metadata: z.string().nullable(),
  /** The server's own JSON text. */
  configuration_json: z.string().nullable(),
  schema: z.string().nullable(),
  dimension: z.number().int().nullable(),
  space: spaceSchema,
  /** Missing in exports of 1.0.12 and earlier. */
  spaceProven: z.boolean().optional(),
});

const recordSchema = z.object({
  id: z.string(),
  document: z.string().nullable(),
  uri: z.string().nullable(),
  /** Canonical JSON, as text. */
  metadata: z.string(),
  /** Base64 of little-endian float32; `null` when the server had lost it. */
  embedding: z.string().nullable(),
});

/** The first line of a collection's export. */
export type ExportHeader = z.infer<typeof headerSchema>;

const line = (value: object): string => `${JSON.stringify(value)}\n`;

/** The first line of `<component>/export/<n>.jsonl`. */
export function headerLine(collection: CollectionInfo, known: KnownSpace): string {
  const { tenant, database, id, name, metadata, configuration, schema, dimension } = collection;
  const header: ExportHeader = {
    format: exportFormat,
    tenant,
    database,
    id,
    name,
    metadata,
    configuration_json: configuration,
    schema,
    dimension,
    ...known,
  };
  return line(header);
}

/** Any further line. */
export function recordLine({ id, document, uri, metadata, vector }: ChromaRecord): string {
  const embedding = vector === null ? null : base64OfVector(vector);
  return line({ id, document, uri, metadata: encodeMetadata(metadata), embedding });
}

/**
 * Reads an export: its header, then its records one by one in bounded memory. Close it by finishing or leaving the
 * loop over `records`.
 */
export interface OpenExport {
  readonly header: ExportHeader;
  readonly records: AsyncGenerator<ChromaRecord, void, undefined>;
}

/** @throws CorruptionError when it is no export; TarsError `unsupported-version` when a later tars wrote it */
export async function openExport(body: Bytes, where: string): Promise<OpenExport> {
  const lines = linesOf(body, where);
  const first = await lines.next();
  if (first.done === true) throw new CorruptionError(`The Chroma export ${where} is empty`);
  const header = understood(where, 1, () => headerSchema.parse(JSON.parse(first.value)));
  if (header.format > exportFormat) {
    await lines.return();
    throw new TarsError('unsupported-version', `The Chroma export ${where} has format ${header.format}`, {
      hint: 'Use the version of tars that wrote it, or a newer one.',
    });
  }
  const space = capturedSpace({ ...header, configuration: header.configuration_json });
  return { header: { ...header, space }, records: recordsOf(lines, where) };
}

async function* recordsOf(
  lines: AsyncGenerator<string, void, undefined>,
  where: string,
): AsyncGenerator<ChromaRecord, void, undefined> {
  let number = 1;
  for await (const text of lines) {
    number++;
    yield understood(where, number, () => {
      const { embedding, metadata, ...rest } = recordSchema.parse(JSON.parse(text));
      return {
        ...rest,
        metadata: decodeMetadata(metadata),
        vector: embedding === null ? null : vectorOfBase64(embedding),
      };
    });
  }
}

function understood<T>(where: string, lineNumber: number, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new CorruptionError(`Line ${lineNumber} of the Chroma export ${where} cannot be read`, { cause });
  }
}

async function* linesOf(body: Bytes, where: string): AsyncGenerator<string, void, undefined> {
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  for await (const chunk of body) {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, from)) {
      pending.push(chunk.subarray(from, end));
      yield Buffer.concat(pending).toString('utf8');
      pending = [];
      pendingBytes = 0;
      from = end + 1;
    }
    pending.push(chunk.subarray(from));
    pendingBytes += chunk.length - from;
    if (pendingBytes > maxLineBytes)
      throw new CorruptionError(`The Chroma export ${where} has a line that is too long`);
  }
  if (pendingBytes > 0) throw new CorruptionError(`The Chroma export ${where} ends in the middle of a line`);
}
