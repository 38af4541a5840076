import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { CorruptionError } from '../../../model/errors.ts';
import { readAs } from '../http/float-spelling.ts';
import { metadataUpdateOf, parseLosslessJson, type MetadataValue } from '../record.ts';

/** `embeddings_queue.operation`. */
const operations = ['add', 'update', 'upsert', 'delete'] as const;
/** What a queued operation does to its record. */
export type Operation = (typeof operations)[number];

/** A queue row, without its bulk: what it does to which record. */
export interface QueuedOperation {
  readonly sequence: bigint;
  readonly operation: Operation;
  readonly hasVector: boolean;
}

/**
 * Chroma's own log (`embeddings_queue`). Its rows stay until every segment has taken them; what a segment has
 * not taken yet must be applied by whoever reads the segment. Bulk (vectors, metadata) is fetched row by row, so
 * that a long queue costs memory only for its ids.
 */
export class Queue {
  readonly #list: StatementSync;
  readonly #vector: StatementSync;
  readonly #metadata: StatementSync;

  constructor(database: DatabaseSync) {
    this.#list = database.prepare(
      `SELECT seq_id, operation, id, vector IS NOT NULL AS has_vector FROM embeddings_queue
       WHERE seq_id > ? AND topic LIKE ? ORDER BY seq_id`,
    );
    this.#vector = database.prepare('SELECT vector, encoding FROM embeddings_queue WHERE seq_id = ?');
    this.#metadata = database.prepare('SELECT metadata FROM embeddings_queue WHERE seq_id = ?');
    for (const statement of [this.#list, this.#vector, this.#metadata]) statement.setReadBigInts(true);
  }

  /** Operations beyond `sequence` on a collection, per record id, oldest first. */
  after(sequence: bigint, collection: string): Map<string, QueuedOperation[]> {
    const byId = new Map<string, QueuedOperation[]>();
    // Topics are persistent://<tenant>/<topic namespace>/<collection id>.
    for (const row of this.#list.iterate(sequence, `%/${collection}`)) {
      const operation = operations[Number(row['operation'])];
      // Later servers log operations that do not concern local segments.
      if (operation === undefined) continue;
      const queued = { sequence: row['seq_id'] as bigint, operation, hasVector: row['has_vector'] !== 0n };
      const id = String(row['id']);
      const list = byId.get(id);
      if (list === undefined) byId.set(id, [queued]);
      else list.push(queued);
    }
    return byId;
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
