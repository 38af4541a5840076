import { TarsError } from '../../../model/errors.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { ChromaRecord } from '../record.ts';
import type { ChromaClient } from './client.ts';
import type { CollectionInfo } from './answers.ts';
import { recordLine } from './export-format.ts';
import { ChromaResponseError, ResponseTooLargeError } from './transport.ts';

/** The collection was deleted while it was being read. */
export class CollectionGoneError extends TarsError {
  constructor({ tenant, database, name }: CollectionInfo) {
    super('capture-failed', `Collection ${tenant}/${database}/${name} was deleted while it was being read`);
  }
}

const firstPageRecords = 50;
const maxPageRecords = 1000;
const targetPageBytes = 2 << 20;
const maxPageBytes = 32 << 20;
/** A single record may be as large as the server's payload limit lets it be, many times over. */
const maxRecordBytes = 500 << 20;
const maxPageIdChars = 4 << 20;
/** Finding a record the server cannot read takes some 20 requests; a store with more of them is for a physical capture. */
const maxUnreadable = 100;
/** A record that is another each time is written faster than it can be read. */
const readingsMax = 8;

/**
 * Streams the records with those ids, a bounded page at a time; records deleted meanwhile are left out, and a record
 * whose vector the server lost comes with `vector: null`.
 * @throws CollectionGoneError
 * @throws TarsError `capture-failed` when the server cannot read many of its records
 */
export function readRecords(
  client: ChromaClient,
  collection: CollectionInfo,
  ids: readonly string[],
  ctx: OperationContext,
): AsyncGenerator<readonly ChromaRecord[], void, undefined> {
  return readPages(client, collection, ids, (records) => Promise.resolve(records), ctx);
}

/**
 * Like {@link readRecords}, each record as two readings in a row gave it: a server answers with the vector of one moment
 * and the document of another when a record changes in between.
 * @param report is told of each record that changed with every reading; its last one is passed on
 */
export function readSettledRecords(
  client: ChromaClient,
  collection: CollectionInfo,
  ids: readonly string[],
  report: (id: string) => void,
  ctx: OperationContext,
): AsyncGenerator<readonly ChromaRecord[], void, undefined> {
  const settle = async (
    records: readonly ChromaRecord[],
    reader: PageReader,
  ): Promise<readonly ChromaRecord[]> => {
    const settled: ChromaRecord[] = [];
    let open = records;
    for (let reading = 2; open.length > 0 && reading <= readingsMax; reading++) {
      const before = new Map(open.map((record) => [record.id, recordLine(record)]));
      const again = (await Array.fromAsync(reader.read([...before.keys()]))).flat();
      settled.push(...again.filter((record) => before.get(record.id) === recordLine(record)));
      open = again.filter((record) => before.get(record.id) !== recordLine(record));
    }
    for (const { id } of open) report(id);
    return [...settled, ...open];
  };
  return readPages(client, collection, ids, settle, ctx);
}

async function* readPages(
  client: ChromaClient,
  collection: CollectionInfo,
  ids: readonly string[],
  settle: (records: readonly ChromaRecord[], reader: PageReader) => Promise<readonly ChromaRecord[]>,
  ctx: OperationContext,
): AsyncGenerator<readonly ChromaRecord[], void, undefined> {
  const reader = new PageReader(client, collection, ctx);
  let pageRecords = firstPageRecords;
  for (let at = 0; at < ids.length;) {
    const page = pageOf(ids, at, pageRecords);
    at += page.length;
    const before = reader.responseBytes;
    for await (const records of reader.read(page)) yield await settle(records, reader);
    const bytesPerRecord = (reader.responseBytes - before) / page.length;
    const fitting = Math.floor(targetPageBytes / Math.max(1, bytesPerRecord));
    pageRecords = Math.max(1, Math.min(maxPageRecords, fitting, pageRecords * 4));
  }
}

function pageOf(ids: readonly string[], from: number, maxRecords: number): readonly string[] {
  let to = from;
  let chars = 0;
  while (to < ids.length && to - from < maxRecords && (chars < maxPageIdChars || to === from)) {
    chars += ids[to]?.length ?? 0;
    to++;
  }
  return ids.slice(from, to);
}

class PageReader {
  readonly #client: ChromaClient;
  readonly #collection: CollectionInfo;
  readonly #ctx: OperationContext;
  #unreadable = 0;
  responseBytes = 0;

  constructor(client: ChromaClient, collection: CollectionInfo, ctx: OperationContext) {
    this.#client = client;
    this.#collection = collection;
    this.#ctx = ctx;
  }

  /** One page; in halves when it is too large, or when one of its records makes the server fail. */
  async *read(ids: readonly string[], attempts?: number): AsyncGenerator<readonly ChromaRecord[]> {
    try {
      yield await this.#get(ids, true, attempts);
      return;
    } catch (error) {
      if (error instanceof ResponseTooLargeError && ids.length > 1) {
        yield* this.#readHalves(ids);
        return;
      }
      // One record without a vector makes Chroma answer 500 ("Error finding id") for the whole page, for good.
      if (!(error instanceof ChromaResponseError) || error.status !== 500) throw error;
      if (ids.length === 1) {
        yield await this.#withoutVector(ids, error);
        return;
      }
    }
    yield* this.#readHalves(ids, 2);
  }

  async *#readHalves(ids: readonly string[], attempts?: number): AsyncGenerator<readonly ChromaRecord[]> {
    const middle = ids.length >> 1;
    yield* this.read(ids.slice(0, middle), attempts);
    yield* this.read(ids.slice(middle), attempts);
  }

  async #withoutVector(ids: readonly string[], cause: ChromaResponseError): Promise<readonly ChromaRecord[]> {
    const { tenant, database, name } = this.#collection;
    this.#unreadable++;
    if (this.#unreadable > maxUnreadable) {
      throw new TarsError(
        'capture-failed',
        `Chroma cannot read more than ${maxUnreadable} records of collection ${tenant}/${database}/${name}`,
        { hint: 'Give the path of its persist directory in tars.yaml for a physical capture.', cause },
      );
    }
    return this.#get(ids, false);
  }

  async #get(
    ids: readonly string[],
    embeddings: boolean,
    attempts?: number,
  ): Promise<readonly ChromaRecord[]> {
    const maxResponseBytes = ids.length === 1 ? maxRecordBytes : maxPageBytes;
    const answer = await this.#client.getRecords(
      this.#collection,
      this.#collection.id,
      { ids, embeddings, maxResponseBytes, ...(attempts === undefined ? {} : { attempts }) },
      this.#ctx,
    );
    if (answer === undefined) throw new CollectionGoneError(this.#collection);
    this.responseBytes += answer.responseBytes;
    return answer.records;
  }
}
