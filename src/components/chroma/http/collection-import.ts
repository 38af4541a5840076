import { CorruptionError, TarsError } from '../../../model/errors.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { decodeMetadata } from '../record.ts';
import type { ChromaClient, NewCollection } from './client.ts';
import type { CollectionInfo, PreFlight } from './answers.ts';
import { isCurrentConfiguration, spaceOfCollection } from './collection-settings.ts';
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

/**
 * Creates an empty collection like the exported one under another name.
 * @throws TarsError `restore-failed` when the server makes one with another distance
 */
export async function createLike(
  { client, spellings }: ImportTarget,
  header: ExportHeader,
  name: string,
  ctx: OperationContext,
): Promise<CollectionInfo> {
  const { tenant, database } = header;
  const wanted = {
    tenant,
    database,
    name,
    metadata: header.metadata === null ? new Map<string, never>() : decodeMetadata(header.metadata),
  };
  const create = (settings: NewCollection['settings']): Promise<CollectionInfo> =>
    client.createCollection({ ...wanted, settings }, spellings.collections, ctx);
  const collection =
    (header.schema === null ? undefined : await createWithSchema(client, create, header.schema, ctx)) ??
    (await create(configurationOf(header)));
  if (spaceOfCollection(collection) === header.space) return collection;
  await client.deleteCollection(collection, name, ctx);
  throw new TarsError(
    'restore-failed',
    `Chroma at ${client.location} made collection ${tenant}/${database}/${header.name} with the distance ${spaceOfCollection(collection)} instead of ${header.space}`,
    { hint: 'Restore to the version of Chroma that was captured.' },
  );
}

const configurationOf = ({ configuration_json: text }: ExportHeader): NewCollection['settings'] =>
  text !== null && isCurrentConfiguration(text) ? { configuration: text } : undefined;

/** Earlier 1.x servers ignore or refuse a schema; then the configuration has to do. */
async function createWithSchema(
  client: ChromaClient,
  create: (settings: NewCollection['settings']) => Promise<CollectionInfo>,
  schema: string,
  ctx: OperationContext,
): Promise<CollectionInfo | undefined> {
  let created: CollectionInfo;
  try {
    created = await create({ schema });
  } catch (error) {
    if (error instanceof ChromaResponseError && [400, 422].includes(error.status)) return undefined;
    throw error;
  }
  if (created.schema !== null) return created;
  await client.deleteCollection(created, created.name, ctx);
  return undefined;
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
  let leftOut = 0;
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    await target.client.add(collection, collection.id, addBody(batch), ctx);
    advance(batchBytes);
    batch = [];
    batchBytes = 0;
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
    batch.push(encoded);
    batchBytes += encoded.sizeBytes;
  }
  await flush();
  return leftOut;
}

function requireDimension({ name, dimension }: ExportHeader, found: number): void {
  if (dimension === null || found === dimension) return;
  throw new CorruptionError(
    `The export of collection ${name} has a vector of ${found} dimensions, its header says ${dimension}`,
  );
}
