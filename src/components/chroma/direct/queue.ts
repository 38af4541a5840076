import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { CorruptionError } from '../../../model/errors.ts';
import { readAs } from '../http/float-spelling.ts';
import { metadataUpdateOf, parseLosslessJson, type MetadataValue } from '../record.ts';

/** `embeddings_queue.operation`. */
const operations = ['add', 'update', 'upsert', 'delete'] as const;
/** What a queued operation does to its record. */
type Operation = (typeof operations)[number];

/** A queue row, without its bulk: what it does to which record. */
export interface QueuedOperation {
  readonly sequence: bigint;
  readonly operation: Operation;
  readonly hasVector: boolean;
}

/**
 * Chroma's own log (`embeddings_queue`). Its rows stay until every segment has taken them; what a segment has
 * not taken yet must be applied by whoever reads the segment. Bulk (vectors, metadata) is fetched row by row.
 */
export class Queue {
  readonly #database: DatabaseSync;
  readonly #vector: StatementSync;
  readonly #metadata: StatementSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#vector = database.prepare('SELECT vector, encoding FROM embeddings_queue WHERE seq_id = ?');
    this.#metadata = database.prepare('SELECT metadata FROM embeddings_queue WHERE seq_id = ?');
    for (const statement of [this.#vector, this.#metadata]) statement.setReadBigInts(true);
  }

  /** Operations beyond `sequence` on a collection. */
  after(sequence: bigint, collection: string): QueuedOperations {
    // Topics are persistent://<tenant>/<topic namespace>/<collection id>.
    return new QueuedOperations(this.#database, sequence, `%/${collection}`);
  }

  vector({ sequence }: QueuedOperation): Float32Array {
    const row = this.#vector.get(sequence);
    const bytes = row?.['vector'];
    if (!(bytes instanceof Uint8Array) || bytes.length % 4 !== 0) {
      throw new CorruptionError(`Row ${sequence.toString()} of embeddings_queue holds no vector`);
    }
    const aligned = new Uint8Array(bytes).buffer;
    return row?.['encoding'] === 'INT32'
      ? Float32Array.from(new Int32Array(aligned))
      : new Float32Array(aligned);
  }

  /** Members to set, or to delete where `null`; `chroma:document` and `chroma:uri` are among them. */
  metadata({ sequence }: QueuedOperation): ReadonlyMap<string, MetadataValue | null> {
    const text = this.#metadata.get(sequence)?.['metadata'];
    if (typeof text !== 'string') return new Map();
    try {
      return metadataUpdateOf(parseLosslessJson(text, floatAsServersRead));
    } catch (cause) {
      throw new CorruptionError(`Row ${sequence.toString()} of embeddings_queue holds unreadable metadata`, {
        cause,
      });
    }
  }
}

let tables = 0;

/**
 * Operations of one collection by record id, oldest first. They lie in a temporary table of SQLite, which keeps a long
 * queue on disk; without any there is no table.
 */
export class QueuedOperations implements Disposable {
  readonly #database: DatabaseSync;
  readonly #table: string | undefined;
  readonly #ofId: StatementSync | undefined;

  constructor(database: DatabaseSync, sequence: bigint, topic: string) {
    this.#database = database;
    const wanted = 'FROM embeddings_queue WHERE seq_id > ? AND topic LIKE ?';
    if (database.prepare(`SELECT 1 ${wanted} LIMIT 1`).get(sequence, topic) === undefined) return;
    this.#table = `temp.tars_queued_${++tables}`;
    database.exec(
      `CREATE TEMP TABLE ${this.#name} (id TEXT, seq_id INTEGER, operation INTEGER, has_vector INTEGER)`,
    );
    database
      .prepare(
        `INSERT INTO ${this.#table} SELECT id, seq_id, operation, vector IS NOT NULL ${wanted} ORDER BY seq_id`,
      )
      .run(sequence, topic);
    database.exec(`CREATE INDEX ${this.#table}_by_id ON ${this.#name} (id, seq_id)`);
    this.#ofId = database.prepare(
      `SELECT seq_id, operation, has_vector FROM ${this.#table} WHERE id = ? ORDER BY seq_id`,
    );
    this.#ofId.setReadBigInts(true);
  }

  get #name(): string {
    return (this.#table ?? '').replace('temp.', '');
  }

  of(id: string): readonly QueuedOperation[] {
    return (this.#ofId?.all(id) ?? []).flatMap((row) => {
      const operation = operations[Number(row['operation'])];
      // Later servers log operations that do not concern local segments.
      if (operation === undefined) return [];
      return [{ sequence: row['seq_id'] as bigint, operation, hasVector: row['has_vector'] !== 0n }];
    });
  }

  *ids(): Generator<string> {
    if (this.#table === undefined) return;
    const rows = this.#database.prepare(`SELECT DISTINCT id FROM ${this.#table} ORDER BY id`).iterate();
    for (const row of rows) yield String(row['id']);
  }

  [Symbol.dispose](): void {
    if (this.#table !== undefined) this.#database.exec(`DROP TABLE ${this.#table}`);
  }
}

/**
 * Only Rust servers (1.x) let the metadata lag behind the queue, and they read its floats with serde_json's
 * arithmetic, sometimes an ulp off. A record must look the same before and after the server has taken it.
 */
function floatAsServersRead(source: string): number {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(source);
  if (parts === null) return Number(source);
  const [, sign, integer = '', fraction = '', power = '0'] = parts;
  const value = readAs('serde-once', BigInt(integer + fraction), Number(power) - fraction.length);
  return sign === '-' ? -value : value;
}
