import { TarsError } from '../model/errors.ts';
import type { SnapshotSummary } from '../model/snapshot.ts';
import type { OperationContext } from '../ports/context.ts';
import type {
  CheckReport,
  SnapshotLabel,
  SnapshotSource,
  SnapshotStore,
  SnapshotWriter,
} from '../ports/snapshot-store.ts';
import type { StorageBackend } from '../ports/storage.ts';
import { BlobReader } from './blob-reader.ts';
import { checkRepository } from './check.ts';
import { loadBlobIndex } from './load-index.ts';
import { acquireLock, removeLocks, type HeldLock } from './lock.ts';
import { openRepository, type OpenedRepository } from './open.ts';
import { findParents, ParentSnapshot } from './parent-snapshot.ts';
import { findSnapshot, listSnapshots, summarize } from './snapshot-list.ts';
import { RepositorySnapshotSource } from './snapshot-source.ts';
import { RepositorySnapshotWriter, type WriterTuning } from './snapshot-writer.ts';

/**
 * Opens a repository in restic's format, version 1 or 2.
 * @throws TarsError `repository-not-found` | `wrong-password` | `unsupported-version`
 * @throws CorruptionError when the configuration is damaged
 */
export async function openSnapshotStore(
  storage: StorageBackend,
  password: string,
  ctx: OperationContext,
  tuning: WriterTuning = {},
): Promise<SnapshotStore> {
  return new RepositorySnapshotStore(await openRepository(storage, password, ctx), tuning);
}

class RepositorySnapshotStore implements SnapshotStore {
  readonly id: string;
  readonly location: string;
  readonly #repository: OpenedRepository;
  readonly #tuning: WriterTuning;

  constructor(repository: OpenedRepository, tuning: WriterTuning) {
    this.id = repository.id;
    this.location = repository.storage.location;
    this.#repository = repository;
    this.#tuning = tuning;
  }

  /** Holds a shared lock until the writer is disposed. */
  async begin(label: SnapshotLabel, ctx: OperationContext): Promise<SnapshotWriter> {
    if (label.stack === '' || /^\.{1,2}$|[/\0]/.test(label.stack)) {
      throw new TarsError('configuration', `"${label.stack}" cannot be the name of a stack`, {
        hint: 'Choose a name without slashes in tars.yaml.',
      });
    }
    const lock = await acquireLock(this.#repository, { exclusive: false }, ctx);
    try {
      const snapshots = await findParents(this.#repository, label.stack, ctx);
      const index = await loadBlobIndex(this.#repository, ctx);
      const reader = new BlobReader(this.#repository, index);
      const parents = await Promise.all(
        snapshots.map((snapshot) => ParentSnapshot.open(reader, snapshot, ctx)),
      );
      const parts = {
        repository: this.#repository,
        index,
        lock,
        label,
        parents: parents.filter((parent) => parent !== undefined),
        parentId: snapshots[0]?.id,
        tuning: this.#tuning,
      };
      return new RepositorySnapshotWriter(parts, ctx);
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Takes no lock: a listing is a moment's view anyway. */
  async list(ctx: OperationContext): Promise<readonly SnapshotSummary[]> {
    return (await listSnapshots(this.#repository, ctx)).map(summarize);
  }

  /** Holds a shared lock until the source is disposed, so that nobody prunes what is being restored. */
  async open(reference: string, stack: string | undefined, ctx: OperationContext): Promise<SnapshotSource> {
    const lock = await this.#lockForReading(ctx);
    try {
      const snapshot = await findSnapshot(this.#repository, reference, stack, ctx);
      const reader = new BlobReader(this.#repository, await loadBlobIndex(this.#repository, ctx));
      return new RepositorySnapshotSource(reader, snapshot, async () => {
        await lock?.[Symbol.asyncDispose]();
      });
    } catch (error) {
      await lock?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** A repository that cannot be written to can still be restored from. */
  async #lockForReading(ctx: OperationContext): Promise<HeldLock | undefined> {
    try {
      return await acquireLock(this.#repository, { exclusive: false }, ctx);
    } catch (error) {
      if (!(error instanceof TarsError) || (error.code !== 'access-denied' && error.code !== 'no-space')) {
        throw error;
      }
      ctx.log.warn(`Reading without a lock: ${error.message}`);
      return undefined;
    }
  }

  check(options: { readonly readData: boolean }, ctx: OperationContext): Promise<CheckReport> {
    return checkRepository(this.#repository, options, ctx);
  }

  unlock(options: { readonly all: boolean }, ctx: OperationContext): Promise<number> {
    return removeLocks(this.#repository, options, ctx);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Locks, workers and files belong to writers and sources.
  }
}
