import { CorruptionError, TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { PruneLimits, PrunePlan, PruneReport, PruneResult } from '../../ports/prune.ts';
import type { StorageFileType } from '../../ports/storage.ts';
import { acquireLock } from '../lock/lock.ts';
import type { HeldLock } from '../lock/held-lock.ts';
import type { OpenedRepository } from '../open.ts';
import { PendingIndex } from '../seal/pending-index.ts';
import { recordDamagedPacks } from '../check/pack-trust.ts';
import { findDamagedPacks, type DamagedPacks } from './damage.ts';
import { rewriteIndexes } from './index-files.ts';
import { decidePacks, keepAll, type PackDecisions } from './plan.ts';
import { Repacker } from './repack.ts';
import { findUsedBlobs, loadIndexedContent, type IndexedContent } from './usage.ts';

/**
 * Finds out what no snapshot needs. Holds an exclusive lock until the plan is disposed.
 * @throws RepositoryLockedError when anybody else holds a lock
 * @throws CorruptionError when anything about the repository is not as it should be: what cannot be seen whole is not
 * deleted from
 */
export async function planPrune(
  repo: OpenedRepository,
  limits: PruneLimits,
  ctx: OperationContext,
): Promise<PrunePlan> {
  const lock = await acquireLock(repo, { exclusive: true }, ctx);
  try {
    const found = await collectFacts(repo, limits, [], { ...ctx, signal: lock.signal });
    return new RepositoryPrunePlan({ repo, lock, ...found });
  } catch (error) {
    await lock[Symbol.asyncDispose]();
    throw refusal(error);
  }
}

/** What {@link planPrune} would find without some snapshots. */
export async function previewPrune(
  repo: OpenedRepository,
  limits: PruneLimits,
  without: readonly string[],
  ctx: OperationContext,
): Promise<PruneReport> {
  await using lock = await acquireLock(repo, { exclusive: true }, ctx);
  try {
    const { decisions } = await collectFacts(repo, limits, without, { ...ctx, signal: lock.signal });
    return decisions.report;
  } catch (error) {
    throw refusal(error);
  }
}

async function collectFacts(
  repo: OpenedRepository,
  limits: PruneLimits,
  without: readonly string[],
  ctx: OperationContext,
): Promise<Omit<PlanParts, 'repo' | 'lock'>> {
  const indexed = await loadIndexedContent(repo, ctx);
  const files = new Map<string, number>();
  for await (const { name, sizeBytes } of repo.storage.list('data', ctx.signal)) files.set(name, sizeBytes);
  const { used, snapshots } = await findUsedBlobs(repo, indexed.index, without, ctx);
  const damaged = await findDamagedPacks(repo, indexed, files, ctx);
  const content = { packs: indexed.packs, files, used, damaged, snapshots };
  if (snapshots === 0 && files.size > 0) {
    ctx.log.warn(
      `There is no snapshot in ${repo.storage.location}. Nothing was removed, because the snapshots may be missing by mistake`,
    );
  }
  const decisions = snapshots === 0 ? keepAll(content) : decidePacks(content, limits);
  return { indexed, files, used, damaged, decisions };
}

function refusal(error: unknown): unknown {
  if (!(error instanceof CorruptionError)) return error;
  return new CorruptionError(`Nothing is pruned from a damaged repository: ${error.message}`, {
    hint: 'No data was deleted. Run `tars backup`: it stores the data that the stack still holds again. Then run `tars check --read-data`: it names the snapshots that are still damaged. Forget these. If a file below snapshots/ or index/ is damaged, restore it from a copy of the repository.',
    cause: error,
  });
}

interface PlanParts {
  readonly repo: OpenedRepository;
  readonly lock: HeldLock;
  readonly indexed: IndexedContent;
  readonly files: ReadonlyMap<string, number>;
  readonly used: Uint8Array;
  readonly damaged: DamagedPacks;
  readonly decisions: PackDecisions;
}

/**
 * New packs, new index files, then the old index files go and then the old packs (restic `doc/design.rst`, "Read and
 * Write Ordering"). Cut off anywhere, all that snapshots need is there and indexed; what is left over is removed by
 * the next prune.
 */
class RepositoryPrunePlan implements PrunePlan {
  readonly report: PruneReport;
  readonly #parts: PlanParts;
  #isUsed = false;

  constructor(parts: PlanParts) {
    this.#parts = parts;
    this.report = parts.decisions.report;
  }

  async execute(ctx: OperationContext): Promise<PruneResult> {
    if (this.#isUsed) throw new TarsError('internal', 'This prune plan was already executed');
    this.#isUsed = true;
    const { lock } = this.#parts;
    const held = { ...ctx, signal: AbortSignal.any([ctx.signal, lock.signal]) };
    try {
      return await this.#execute(held);
    } catch (error) {
      throw cutShort(error);
    }
  }

  async #execute(ctx: OperationContext): Promise<PruneResult> {
    const { repo, lock, indexed, damaged, decisions } = this.#parts;
    const { remove, repack, vanished, unindexed } = decisions;
    await lock.confirm();
    const unfinishedBytes = await repo.storage.removeUnfinished(ctx.signal);
    await this.#removePacks(unindexed, 'Remove packs that are in no index', ctx);

    const pending = new PendingIndex(repo, indexed.index, ctx.clock);
    const writtenBytes = await this.#repack(pending, ctx);
    const old = new Set([...remove, ...repack]);
    const gone = new Set([...old, ...vanished]);
    const still = [...damaged.keys()].filter((id) => !gone.has(id));
    const hasRecovered = [...indexed.damaged].some((id) => !damaged.has(id));
    if (gone.size > 0 || hasRecovered) {
      if (still.length > 0) await recordDamagedPacks(repo, still, ctx.signal);
      const obsolete = await rewriteIndexes(repo, indexed.names, gone, pending, ctx);
      // Whoever removed our lock may be adding to what the old index files list.
      await lock.confirm();
      for (const name of obsolete) await this.#remove('index', name, ctx);
    }
    await this.#removePacks(old, 'Remove packs', ctx);
    const removedBytes = this.#sizeOf(old) + this.#sizeOf(unindexed) + unfinishedBytes;
    return {
      removedPacks: old.size + unindexed.size,
      removedBytes,
      writtenBytes,
      freedBytes: removedBytes - writtenBytes,
    };
  }

  /** Returns the bytes of the new packs. */
  async #repack(pending: PendingIndex, ctx: OperationContext): Promise<number> {
    const { repo, indexed, damaged, decisions } = this.#parts;
    if (decisions.repack.size === 0) return 0;
    const task = ctx.progress.start('Repack', decisions.report.repackBytes);
    const repacker = new Repacker(repo, indexed, this.#neededElsewhere(), pending, damaged, ctx);
    try {
      await repacker.repack(decisions.repack, task);
      task.finish('ok');
      return repacker.writtenBytes;
    } catch (error) {
      task.finish('failed');
      throw error;
    }
  }

  /** By ordinal: 1 for blobs that snapshots need and no pack has that stays. */
  #neededElsewhere(): Uint8Array {
    const { indexed, files, used, damaged, decisions } = this.#parts;
    const needed = Uint8Array.from(used);
    for (const { id, entries } of indexed.packs.values()) {
      if (decisions.remove.has(id) || decisions.repack.has(id) || !files.has(id)) continue;
      // One that stays, as no repacking is wanted, keeps what it holds.
      const broken = damaged.get(id);
      for (let i = 0; i < entries.length; i += 2) {
        const ordinal = entries[i] ?? 0;
        if (broken?.has(ordinal) !== true) needed[ordinal] = 0;
      }
    }
    return needed;
  }

  async #removePacks(ids: ReadonlySet<string>, what: string, ctx: OperationContext): Promise<void> {
    if (ids.size === 0) return;
    const task = ctx.progress.start(what, this.#sizeOf(ids));
    try {
      for (const id of ids) {
        await this.#remove('data', id, ctx);
        task.advance(this.#parts.files.get(id) ?? 0);
      }
      task.finish('ok');
    } catch (error) {
      task.finish('failed');
      throw error;
    }
  }

  async #remove(type: StorageFileType, name: string, ctx: OperationContext): Promise<void> {
    await this.#parts.repo.storage.remove({ type, name }, ctx.signal);
  }

  #sizeOf(ids: ReadonlySet<string>): number {
    let total = 0;
    for (const id of ids) total += this.#parts.files.get(id) ?? 0;
    return total;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.lock[Symbol.asyncDispose]();
  }
}

function cutShort(error: unknown): unknown {
  if (error instanceof CorruptionError) {
    return new CorruptionError(`The prune stopped: ${error.message}`, {
      hint: 'Nothing that snapshots need was deleted. `tars check --read-data` names what is damaged; `tars prune --max-repack-size 0` does not touch these packs.',
      cause: error,
    });
  }
  if (error instanceof TarsError && error.code === 'no-space') {
    return new TarsError('no-space', error.message, {
      hint: 'Repacking writes new packs before it removes old ones. `tars prune --max-repack-size 0` only removes packs and needs almost no space.',
      context: error.context,
      cause: error,
    });
  }
  return error;
}
