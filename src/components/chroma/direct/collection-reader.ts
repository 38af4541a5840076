import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { throwIfAborted } from '../../../model/abort.ts';
import type { ChromaRecord, MetadataScalar, MetadataValue } from '../record.ts';
import type { Queue, QueuedOperations } from './queue.ts';
import { columnsOf, hasTable, valueOf, type StoredCollection, type ValueColumns } from './tables.ts';
import type { CollectionVectors } from './vectors.ts';

const documentKey = 'chroma:document';
const uriKey = 'chroma:uri';
const reservedPrefix = 'chroma:';
const recordsPerTurn = 500;

type Members = Map<string, MetadataValue>;

interface StoredRecord {
  readonly id: string;
  readonly members: Members;
}

/** Reads the records of one collection from the tables, the queue and the vector index. */
export class CollectionReader {
  readonly #collection: StoredCollection;
  readonly #queue: Queue;
  readonly #queued: QueuedOperations;
  readonly #vectors: CollectionVectors;
  readonly #records: StatementSync;
  readonly #record: StatementSync;
  readonly #arrays: StatementSync | undefined;

  /** @param queued operations beyond the metadata segment's `max_seq_id` */
  constructor(
    database: DatabaseSync,
    collection: StoredCollection,
    queue: Queue,
    queued: QueuedOperations,
    vectors: CollectionVectors,
  ) {
    this.#collection = collection;
    this.#queue = queue;
    this.#queued = queued;
    this.#vectors = vectors;
    // Without ORDER BY the rows of one record still follow each other, and nothing has to be sorted.
    const bool = columnsOf(database, 'embedding_metadata').has('bool_value') ? 'm.bool_value' : 'NULL';
    const select = `SELECT e.id AS row, e.embedding_id AS id, m.key AS key, m.string_value AS text,
      m.int_value AS int, m.float_value AS float, ${bool} AS bool
      FROM embeddings e LEFT JOIN embedding_metadata m ON m.id = e.id WHERE e.segment_id = ?`;
    this.#records = database.prepare(select);
    this.#record = database.prepare(`${select} AND e.embedding_id = ?`);
    this.#arrays = hasTable(database, 'embedding_metadata_array')
      ? database.prepare(
          `SELECT key, string_value AS text, int_value AS int, float_value AS float, bool_value AS bool
           FROM embedding_metadata_array WHERE id = ? ORDER BY rowid`,
        )
      : undefined;
    for (const statement of [this.#records, this.#record, this.#arrays]) statement?.setReadBigInts(true);
  }

  /** Every record the server would return, in no particular order. */
  async *records(signal: AbortSignal): AsyncGenerator<ChromaRecord> {
    let sinceTurn = 0;
    for (const record of this.#merged()) {
      yield record;
      if (++sinceTurn < recordsPerTurn) continue;
      sinceTurn = 0;
      throwIfAborted(signal);
      await nextTurn();
    }
  }

  /** One record by id. */
  record(id: string): ChromaRecord | undefined {
    return this.#applied(id, this.#storedOne(id)?.members);
  }

  *#merged(): Generator<ChromaRecord> {
    const segment = this.#collection.metadataSegment;
    if (segment !== undefined) {
      for (const stored of this.#grouped(this.#records.iterate(segment))) {
        const record = this.#applied(stored.id, stored.members);
        if (record !== undefined) yield record;
      }
    }
    for (const id of this.#queued.ids()) {
      if (this.#storedOne(id) !== undefined) continue;
      const record = this.#applied(id, undefined);
      if (record !== undefined) yield record;
    }
  }

  #storedOne(id: string): StoredRecord | undefined {
    const segment = this.#collection.metadataSegment;
    if (segment === undefined) return undefined;
    return this.#grouped(this.#record.iterate(segment, id)).next().value;
  }

  *#grouped(rows: Iterable<Record<string, unknown>>): Generator<StoredRecord, undefined> {
    let row: unknown;
    let current: StoredRecord | undefined;
    for (const columns of rows) {
      if (current === undefined || columns['row'] !== row) {
        if (current !== undefined) yield current;
        row = columns['row'];
        current = { id: String(columns['id']), members: this.#arrayMembers(row as bigint) };
      }
      const value = valueOf(columns as unknown as ValueColumns);
      if (typeof columns['key'] === 'string' && value !== undefined)
        current.members.set(columns['key'], value);
    }
    if (current !== undefined) yield current;
    return undefined;
  }

  #arrayMembers(row: bigint): Members {
    const arrays = new Map<string, MetadataScalar[]>();
    for (const columns of this.#arrays?.iterate(row) ?? []) {
      const value = valueOf(columns as unknown as ValueColumns);
      if (value === undefined || typeof value === 'object') continue;
      const key = String(columns['key']);
      arrays.set(key, [...(arrays.get(key) ?? []), value]);
    }
    return arrays;
  }

  /** Replays the queue on a stored record as the server does (rust/segment/src/sqlite_metadata.rs). */
  #applied(id: string, stored: Members | undefined): ChromaRecord | undefined {
    let members = stored;
    for (const queued of this.#queued.of(id)) {
      if (queued.operation === 'delete') members = undefined;
      else if (queued.operation === 'add' && members !== undefined) continue;
      else if (queued.operation === 'update' && members === undefined) continue;
      else members = updated(members ?? new Map<string, MetadataValue>(), this.#queue.metadata(queued));
    }
    return members === undefined ? undefined : recordOf(id, members, this.#vectors.get(id));
  }
}

function updated(members: Members, update: ReadonlyMap<string, MetadataValue | null>): Members {
  for (const [key, value] of update) {
    if (value === null) members.delete(key);
    else members.set(key, value);
  }
  return members;
}

function recordOf(id: string, members: Members, vector: Float32Array | null): ChromaRecord {
  const document = members.get(documentKey);
  const uri = members.get(uriKey);
  return {
    id,
    document: typeof document === 'string' ? document : null,
    uri: typeof uri === 'string' ? uri : null,
    metadata: new Map([...members].filter(([key]) => !key.startsWith(reservedPrefix))),
    vector,
  };
}
