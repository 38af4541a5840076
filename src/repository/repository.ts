import { TarsError } from '../model/errors.ts';
import type { Manifest } from '../model/manifest.ts';
import type { SnapshotOwner, SnapshotSummary } from '../model/snapshot.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotRemoval } from '../ports/snapshot-shelf.ts';
import type {
  CheckReport,
  LockHolder,
  PackHealth,
  SnapshotLabel,
  SnapshotSource,
  SnapshotStore,
  SnapshotWriter,
} from '../ports/snapshot-store.ts';
import type { RepositoryKey } from '../ports/keys.ts';
import type { PruneLimits, PrunePlan, PruneReport } from '../ports/prune.ts';
import type { StorageBackend } from '../ports/storage.ts';
import { BlobReader } from './blobs/blob-reader.ts';
import { checkRepository } from './check/check.ts';
import { addProvenKey, changePassword, listKeys, removeKey } from './key-changes.ts';
import { loadBlobIndex } from './blobs/load-index.ts';
import { acquireLock } from './lock/lock.ts';
import { listHolders, removeLocks } from './lock/lock-holders.ts';
import type { HeldLock } from './lock/held-lock.ts';
import { examinePacks, loadTrustedIndex } from './check/pack-trust.ts';
import { openRepository, type OpenedRepository } from './open.ts';
import { findParents, ParentSnapshot } from './snapshot/parent-snapshot.ts';
import { removeSnapshots } from './snapshot/remove-snapshots.ts';
import { findSnapshot, listSnapshots, loadSnapshot, summarize } from './snapshot/snapshot-list.ts';
import { planPrune, previewPrune } from './prune/prune.ts';
import { RepositorySnapshotSource } from './snapshot/snapshot-source.ts';
import { RepositorySnapshotWriter, type WriterTuning } from './snapshot/snapshot-writer.ts';

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
  readonly formatVersion: number;
  #repository: OpenedRepository;
  readonly #tuning: WriterTuning;

  constructor(repository: OpenedRepository, tuning: WriterTuning) {
    this.id = repository.id;
    this.location = repository.storage.location;
    this.formatVersion = repository.config.version;
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
      const snapshots = await findParents(this.#repository, label, ctx);
      const { all, trusted } = await loadTrustedIndex(this.#repository, ctx);
      const reader = new BlobReader(this.#repository, all, trusted);
      const parents = await Promise.all(
        snapshots.map((snapshot) => ParentSnapshot.open(reader, snapshot, ctx)),
      );
      const parts = {
        repository: this.#repository,
        index: trusted,
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
  async open(
    reference: string,
    owner: SnapshotOwner | undefined,
    ctx: OperationContext,
  ): Promise<SnapshotSource> {
    const lock = await this.#lockForReading(ctx);
    try {
      return await this.#read(reference, owner, async () => lock?.[Symbol.asyncDispose](), ctx);
    } catch (error) {
      await lock?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  peek(reference: string, owner: SnapshotOwner | undefined, ctx: OperationContext): Promise<SnapshotSource> {
    return this.#read(reference, owner, () => Promise.resolve(), ctx);
  }

  async #read(
    reference: string,
    owner: SnapshotOwner | undefined,
    close: () => Promise<void>,
    ctx: OperationContext,
  ): Promise<SnapshotSource> {
    const snapshot = await findSnapshot(this.#repository, reference, owner, ctx);
    const reader = new BlobReader(this.#repository, await loadBlobIndex(this.#repository, ctx));
    return new RepositorySnapshotSource(reader, snapshot, close);
  }

  holders(ctx: OperationContext): Promise<readonly LockHolder[]> {
    return listHolders(this.#repository, ctx);
  }

  /** Reads all of them under one lock, with one index. */
  async *readManifests(ids: readonly string[], ctx: OperationContext): AsyncGenerator<Manifest> {
    await using _lock = await this.#lockForReading(ctx);
    const reader = new BlobReader(this.#repository, await loadBlobIndex(this.#repository, ctx));
    for (const id of ids) {
      const snapshot = await loadSnapshot(this.#repository, id, ctx.signal);
      const source = new RepositorySnapshotSource(reader, snapshot, () => Promise.resolve());
      yield await source.manifest(ctx.signal);
    }
  }

  removeSnapshots(removal: SnapshotRemoval, ctx: OperationContext): Promise<void> {
    return removeSnapshots(this.#repository, removal, ctx);
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

  examinePacks(ctx: OperationContext): Promise<PackHealth> {
    return examinePacks(this.#repository, ctx);
  }

  check(options: { readonly readData: boolean }, ctx: OperationContext): Promise<CheckReport> {
    return checkRepository(this.#repository, options, ctx);
  }

  unlock(options: { readonly all: boolean }, ctx: OperationContext): Promise<number> {
    return removeLocks(this.#repository, options, ctx);
  }

  planPrune(limits: PruneLimits, ctx: OperationContext): Promise<PrunePlan> {
    return planPrune(this.#repository, limits, ctx);
  }

  previewPrune(limits: PruneLimits, without: readonly string[], ctx: OperationContext): Promise<PruneReport> {
    return previewPrune(this.#repository, limits, without, ctx);
  }

  listKeys(ctx: OperationContext): Promise<readonly RepositoryKey[]> {
    return listKeys(this.#repository, ctx);
  }

  addKey(password: string, ctx: OperationContext): Promise<string> {
    return addProvenKey(this.#repository, password, ctx);
  }

  removeKey(reference: string, ctx: OperationContext): Promise<string> {
    return removeKey(this.#repository, reference, ctx);
  }

  async changePassword(
    password: string,
    ctx: OperationContext,
  ): Promise<{ readonly added: string; readonly removed: string }> {
    const changed = await changePassword(this.#repository, password, ctx);
    this.#repository = { ...this.#repository, keyName: changed.added };
    return changed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Locks, workers and files belong to writers and sources.
  }
}
