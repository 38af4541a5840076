import type { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { CorruptionError } from '../../../model/errors.ts';
import type { Migration } from '../facts.ts';
import type { ChromaRecord } from '../record.ts';
import { CollectionReader } from './collection-reader.ts';
import { HnswFiles } from './hnsw-files.ts';
import { Queue } from './queue.ts';
import { checkTables, type TableProblem } from './table-check.ts';
import {
  countIndexesWithoutTables,
  openTables,
  readCollections,
  readMaxSeqId,
  readMigrations,
  readTenants,
  type StoredCollection,
} from './tables.ts';
import { CollectionVectors, type VectorProblem } from './vectors.ts';

/** An opened collection. Memory: see {@link HnswFiles}; never its ids, vectors or documents. */
interface OpenedCollection extends Disposable {
  records(signal: AbortSignal): AsyncGenerator<ChromaRecord>;
  record(id: string): ChromaRecord | undefined;
  /** Once all records are read: ids that have a vector and may have no record. */
  unreadVectors(): Generator<string>;
}

/**
 * A persist directory read without a server, as the server would see it: the tables, the saved vector indexes, and
 * the queue rows neither has taken yet. The directory must not change meanwhile (a copy, or under the lock).
 */
export class PersistDirectory implements Disposable {
  readonly path: string;
  readonly #database: DatabaseSync;

  /** @throws TarsError `capture-failed` when `chroma.sqlite3` cannot be opened */
  constructor(path: string, open: (path: string) => DatabaseSync = openTables) {
    this.path = path;
    this.#database = open(path);
  }

  migrations(): readonly Migration[] {
    return readMigrations(this.#database);
  }

  tenants(): readonly { readonly name: string; readonly databases: readonly string[] }[] {
    return readTenants(this.#database);
  }

  collections(): readonly StoredCollection[] {
    return readCollections(this.#database);
  }

  /** See the function of the same name. */
  countIndexesWithoutTables(): number {
    return countIndexesWithoutTables(this.path, this.#database);
  }

  /** What SQLite's own structural check finds; empty when all is well. */
  quickCheck(): readonly TableProblem[] {
    return checkTables(this.#database);
  }

  /**
   * @param report is told about each vector that is listed and cannot be had
   * @throws CorruptionError when the vector index is torn
   */
  async open(
    collection: StoredCollection,
    report: (code: VectorProblem, id: string) => void,
    signal: AbortSignal,
  ): Promise<OpenedCollection> {
    const queue = new Queue(this.#database);
    const index = await this.#index(collection, signal);
    const taken = readMaxSeqId(this.#database, collection.vectorSegment) ?? index?.idMap.maxSeqId ?? 0n;
    const vectorsQueued = queue.after(taken, collection.id);
    const vectors = new CollectionVectors(index, collection.space, queue, vectorsQueued, report);
    const metadataTaken = readMaxSeqId(this.#database, collection.metadataSegment) ?? 0n;
    const queued = queue.after(metadataTaken, collection.id);
    const reader = new CollectionReader(this.#database, collection, queue, queued, vectors);
    return {
      records: (recordSignal) => reader.records(recordSignal),
      record: (id) => reader.record(id),
      unreadVectors: () => vectors.unread(),
      [Symbol.dispose]: () => {
        index?.[Symbol.dispose]();
        vectorsQueued[Symbol.dispose]();
        queued[Symbol.dispose]();
      },
    };
  }

  async #index(collection: StoredCollection, signal: AbortSignal): Promise<HnswFiles | undefined> {
    if (collection.vectorSegment === undefined) return undefined;
    const directory = join(this.path, collection.vectorSegment);
    if (!HnswFiles.exist(directory)) return undefined;
    const index = await HnswFiles.open(directory, signal);
    if (collection.dimension === null || index.dimension === collection.dimension) return index;
    index[Symbol.dispose]();
    throw new CorruptionError(
      `The vector index ${directory} has ${index.dimension} dimensions, its collection ${collection.dimension}`,
    );
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}
