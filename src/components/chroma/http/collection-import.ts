import { CorruptionError, TarsError } from '../../../model/errors.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { decodeMetadata, type Metadata } from '../record.ts';
import { declaredSpace } from '../space.ts';
import type { ChromaClient, NewCollection } from './client.ts';
import type { CollectionInfo, PreFlight } from './answers.ts';
import {
  configurationWith,
  isCurrentConfiguration,
  schemaWith,
  spaceOfCreated,
} from './collection-settings.ts';
import type { ExportHeader, OpenExport } from './export-format.ts';
import type { FloatSpellings } from './float-probe.ts';
import { addBody, encodeRecord, type EncodedRecord } from './record-json.ts';
import { ChromaResponseError } from './transport.ts';

/** The server takes up to 40 MiB in one request, whatever its `max_batch_size` says; a fifth of that keeps memory low. */
const maxBatchBytes = 8 << 20;
const maxBatchRecords = 1000;

/** How to write to the target server. */
export interface ImportTarget {
  readonly client: ChromaClient;
  readonly preFlight: PreFlight;
  readonly spellings: FloatSpellings;
}

/** A way to make a collection: with its own settings, or with the distance set and the metadata given afterwards. */
interface Making {
  readonly settings: NewCollection['settings'];
  readonly metadataAfterwards: boolean;
}

/**
 * Creates an empty collection like the exported one under another name. A server derives the distance from settings
 * and metadata together, not always as the server that was captured had it: then it is set.
 * @throws TarsError `restore-failed` when the server makes one with another distance
 */
export async function createLike(
  target: ImportTarget,
  header: ExportHeader,
  name: string,
  ctx: OperationContext,
): Promise<CollectionInfo> {
  let made = '';
  for (const making of makings(header)) {
    const collection = await createOnce(target, header, name, making, ctx);
    if (collection === undefined) continue;
    if (spaceOfCreated(collection) === header.space)
      return await withMetadata(target, header, making, collection, ctx);
    made = spaceOfCreated(collection);
    await target.client.deleteCollection(collection, name, ctx);
  }
  throw new TarsError(
    'restore-failed',
    `Chroma at ${target.client.location} made collection ${header.tenant}/${header.database}/${header.name} with the distance ${made} instead of ${header.space}`,
    { hint: 'Restore to the version of Chroma that was captured.' },
  );
}

function* makings({ schema, configuration_json: text, space }: ExportHeader): Generator<Making> {
  const configuration = text !== null && isCurrentConfiguration(text) ? text : undefined;
  if (schema !== null) yield { settings: { schema }, metadataAfterwards: false };
  yield {
    settings: configuration === undefined ? undefined : { configuration },
    metadataAfterwards: false,
  };
  // Settings that somebody chose are what servers go by; they cannot have been searched otherwise.
  if (!declaredSpace({ schema, configuration: text }).isDefault) return;
  if (schema !== null) yield { settings: { schema: schemaWith(schema, space) }, metadataAfterwards: true };
  if (configuration === undefined) return;
  yield { settings: { configuration: configurationWith(configuration, space) }, metadataAfterwards: true };
}

/** `undefined` where the server does not know schemas: earlier 1.x ones ignore or refuse them. */
async function createOnce(
  { client, spellings }: ImportTarget,
  { tenant, database, name: exportedName, metadata }: ExportHeader,
  name: string,
  { settings, metadataAfterwards }: Making,
  ctx: OperationContext,
): Promise<CollectionInfo | undefined> {
  const given = metadata === null || metadataAfterwards ? new Map<string, never>() : decodeMetadata(metadata);
  const hasSchema = settings !== undefined && 'schema' in settings;
  let created: CollectionInfo;
  try {
    const wanted = { tenant, database, name, metadata: given, settings };
    created = await client.createCollection(wanted, spellings.collections, ctx);
  } catch (error) {
    if (hasSchema && error instanceof ChromaResponseError && [400, 422].includes(error.status))
      return undefined;
    const header = { tenant, database, name: exportedName };
    throw listsRefused(error, hasLists(given), client.location, header) ?? error;
  }
  if (!hasSchema || created.schema !== null) return created;
  await client.deleteCollection(created, name, ctx);
  return undefined;
}

async function withMetadata(
  { client, spellings }: ImportTarget,
  { metadata }: ExportHeader,
  { metadataAfterwards }: Making,
  collection: CollectionInfo,
  ctx: OperationContext,
): Promise<CollectionInfo> {
  if (!metadataAfterwards || metadata === null) return collection;
  const { id } = collection;
  await client.setCollectionMetadata(collection, id, decodeMetadata(metadata), spellings.collections, ctx);
  return { ...collection, metadata };
}

/**
 * Adds an export's records to a collection of our own, in batches bounded by count and bytes. Records without a
 * vector are left out: Chroma accepts them and then cannot read the collection any more.
 * @returns how many were left out
 */
export async function importRecords(
  target: ImportTarget,
  { header, records }: OpenExport,
  collection: CollectionInfo,
  advance: (bytes: number) => void,
  ctx: OperationContext,
): Promise<number> {
  const encoding = {
    base64Embeddings: target.preFlight.base64Embeddings,
    spell: target.spellings.records,
  };
  const maxRecords = Math.min(maxBatchRecords, target.preFlight.maxBatchSize);
  let batch: EncodedRecord[] = [];
  let batchBytes = 0;
  let batchHasLists = false;
  let leftOut = 0;
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    try {
      await target.client.add(collection, collection.id, addBody(batch), ctx);
    } catch (error) {
      throw listsRefused(error, batchHasLists, target.client.location, header) ?? error;
    }
    advance(batchBytes);
    batch = [];
    batchBytes = 0;
    batchHasLists = false;
  };
  for await (const record of records) {
    const { vector } = record;
    if (vector === null) {
      leftOut++;
      continue;
    }
    requireDimension(header, vector.length);
    const encoded = encodeRecord({ ...record, vector }, encoding);
    if (batch.length >= maxRecords || batchBytes + encoded.sizeBytes > maxBatchBytes) await flush();
    batchHasLists ||= hasLists(record.metadata);
    batch.push(encoded);
    batchBytes += encoded.sizeBytes;
  }
  await flush();
  return leftOut;
}

const hasLists = (metadata: Metadata): boolean =>
  [...metadata.values()].some((value) => typeof value === 'object');

/** Servers before lists in metadata call such a request malformed, without saying what they do not know. */
function listsRefused(
  error: unknown,
  sentLists: boolean,
  location: string,
  { tenant, database, name }: Pick<ExportHeader, 'tenant' | 'database' | 'name'>,
): TarsError | undefined {
  if (!sentLists || !(error instanceof ChromaResponseError) || ![400, 422].includes(error.status))
    return undefined;
  return new TarsError(
    'unsupported-version',
    `Collection ${tenant}/${database}/${name} has lists in its metadata, and Chroma at ${location} does not accept them`,
    { hint: 'Restore to the version of Chroma that was captured, or a newer one.', cause: error },
  );
}

function requireDimension({ name, dimension }: ExportHeader, found: number): void {
  if (dimension === null || found === dimension) return;
  throw new CorruptionError(
    `The export of collection ${name} has a vector of ${found} dimensions, its header says ${dimension}`,
  );
}
