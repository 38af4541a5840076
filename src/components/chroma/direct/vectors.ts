import type { Space } from '../space.ts';
import type { HnswFiles } from './hnsw-files.ts';
import type { Queue, QueuedOperation, QueuedOperations } from './queue.ts';

/** Why a vector that should be in an index file is not there. */
export type VectorProblem = 'label-missing' | 'label-deleted' | 'length-missing';

/** The vectors of one collection: the saved index with the queue's later operations on top. */
export class CollectionVectors {
  readonly #index: HnswFiles | undefined;
  readonly #space: Space;
  readonly #queue: Queue;
  readonly #queued: QueuedOperations;
  readonly #report: (code: VectorProblem, id: string) => void;

  constructor(
    index: HnswFiles | undefined,
    space: Space,
    queue: Queue,
    queued: QueuedOperations,
    report: (code: VectorProblem, id: string) => void,
  ) {
    this.#index = index;
    this.#space = space;
    this.#queue = queue;
    this.#queued = queued;
    this.#report = report;
  }

  /** Ids that have a vector and were never asked for, and those whose vector is queued, asked for or not. */
  *unread(): Generator<string> {
    for (const id of this.#index?.idMap.labels.unused() ?? []) if (this.has(id)) yield id;
    for (const id of this.#queued.ids()) if (!this.#isSaved(id) && this.has(id)) yield id;
  }

  has(id: string): boolean {
    return this.#sourceOf(id, this.#isSaved(id)) !== undefined;
  }

  /** The vector a server would return, within 1 ulp for cosine; `null` when there is none. */
  get(id: string): Float32Array | null {
    const label = this.#index?.idMap.labels.use(id);
    const source = this.#sourceOf(id, label !== undefined);
    if (source === undefined) return null;
    return source === 'saved' ? this.#saved(id, label) : this.#queue.vector(source);
  }

  #isSaved(id: string): boolean {
    return this.#index?.idMap.labels.has(id) ?? false;
  }

  /** Replays the queue as the server does when it opens the index (rust/segment/src/local_hnsw.rs). */
  #sourceOf(id: string, isSaved: boolean): 'saved' | QueuedOperation | undefined {
    let source: 'saved' | QueuedOperation | undefined = isSaved ? 'saved' : undefined;
    for (const queued of this.#queued.of(id)) {
      const exists = source !== undefined;
      if (queued.operation === 'delete') source = undefined;
      else if (!queued.hasVector) continue;
      else if (queued.operation === 'add' ? !exists : queued.operation === 'update' ? exists : true)
        source = queued;
    }
    return source;
  }

  #saved(id: string, label: number | undefined): Float32Array | null {
    const index = this.#index;
    if (index === undefined || label === undefined) return null;
    const position = index.locate(label);
    if (typeof position === 'string') {
      this.#report(position, id);
      return null;
    }
    const vector = index.vectorAt(position);
    if (this.#space !== 'cosine') return vector;
    const length = index.lengthAt(position);
    if (length === 0 && vector.some((component) => component !== 0)) this.#report('length-missing', id);
    // Float32Array rounds each product to float32, as the server does.
    return vector.map((component) => component * length);
  }
}
