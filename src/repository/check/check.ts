import { TarsError } from '../../model/errors.ts';
import { hasErrors } from '../../model/finding.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { CheckReport } from '../../ports/snapshot-store.ts';
import { BlobReader } from '../blobs/blob-reader.ts';
import { checkConfig, checkKeys, checkLocks, checkSnapshotFiles, namesOf } from './documents.ts';
import { Findings, notInterrupted } from './findings.ts';
import { checkIndexes, type IndexView } from './indexes.ts';
import { checkPackFiles, listPacks, PackReading } from './packs.ts';
import { BlobHealth, TreeCheck } from './trees.ts';
import { acquireLock } from '../lock/lock.ts';
import { FurtherCopies } from '../blobs/further-copies.ts';
import { recordDamagedPacks } from './pack-trust.ts';
import type { HeldLock } from '../lock/held-lock.ts';
import type { OpenedRepository } from '../open.ts';

/**
 * Examines the whole repository: every key, lock, index and snapshot file is what its name says and can be parsed;
 * every indexed pack is there with the size its blobs give it; every blob that a snapshot needs is indexed. With
 * `readData` every pack is read, too: its hash, its header against the index, every blob authenticated,
 * decompressed and hashed. Goes on after a problem; each is a finding, and so is every snapshot it affects, with
 * the paths concerned.
 *
 * Holds a shared lock meanwhile, so that nobody prunes what is being read, unless locks cannot be written or read.
 * @throws RepositoryLockedError when somebody holds an exclusive lock, or ours is lost
 * @throws TarsError `interrupted`, `internal`; damage never throws
 */
export async function checkRepository(
  repo: OpenedRepository,
  options: { readonly readData: boolean },
  ctx: OperationContext,
): Promise<CheckReport> {
  const findings = new Findings();
  await checkConfig(repo, findings, ctx);
  await checkKeys(repo, findings, ctx);
  const locksReadable = await checkLocks(repo, findings, ctx);
  await using lock = locksReadable ? await lockWherePossible(repo, ctx) : undefined;
  return await checkContent(repo, options.readData, findings, { ...ctx, signal: lock?.signal ?? ctx.signal });
}

/** A repository on a medium that cannot be written to is checked without a lock. */
async function lockWherePossible(
  repo: OpenedRepository,
  ctx: OperationContext,
): Promise<HeldLock | undefined> {
  try {
    return await acquireLock(repo, { exclusive: false }, ctx);
  } catch (error) {
    if (!(error instanceof TarsError) || !['access-denied', 'no-space'].includes(error.code)) throw error;
    ctx.log.warn(`Checking without a lock: ${error.message}`);
    return undefined;
  }
}

async function checkContent(
  repo: OpenedRepository,
  readData: boolean,
  findings: Findings,
  ctx: OperationContext,
): Promise<CheckReport> {
  // Snapshots are listed before indexes and those before packs: what a backup publishes meanwhile is complete.
  const snapshotNames = await namesOf(repo, 'snapshots', findings, ctx);
  const indexNames = await namesOf(repo, 'index', findings, ctx);
  const index = await checkIndexes(repo, indexNames, findings, ctx);
  const snapshots = await checkSnapshotFiles(repo, snapshotNames, findings, ctx);
  const sizes = await listPacks(repo, findings, ctx);
  checkPackFiles(index, sizes, findings);

  const health = new BlobHealth(index.blobs, sizes);
  const trees = new TreeCheck(new BlobReader(repo, index.blobs), health, findings, ctx);
  for (const { tree } of snapshots.values()) await trees.walk(tree);
  // What an earlier check found damaged is looked at again in any case.
  const only = readData ? undefined : index.damaged;
  const readBytes = await new PackReading(repo, index, sizes, health, findings, ctx, only).run();
  await record(repo, index, health, sizes, ctx);
  if (hasErrors(findings.all)) {
    const copies = await findings.examine('index', 'index-damaged', () =>
      FurtherCopies.load(repo, index.blobs, index.names, ctx.signal),
    );
    if (copies !== undefined) health.consider(copies);
    await trees.reportAffected(snapshots);
  }
  return {
    findings: findings.all,
    snapshots: snapshotNames.length,
    packs: index.packs.size,
    blobs: index.blobs.size,
    readBytes,
  };
}

/** So that no backup relies any more on what was found damaged. What is missing or has another size is seen without. */
async function record(
  repo: OpenedRepository,
  { damaged, packs }: IndexView,
  { damagedPacks }: BlobHealth,
  sizes: ReadonlyMap<string, number>,
  ctx: OperationContext,
): Promise<void> {
  const hasItsSize = (id: string): boolean => {
    const foundBytes = sizes.get(id);
    return foundBytes !== undefined && foundBytes === (packs.get(id)?.sizeBytes ?? foundBytes);
  };
  const found = [...damagedPacks].filter((id) => hasItsSize(id) && !damaged.has(id));
  if (found.length === 0) return;
  try {
    await recordDamagedPacks(repo, found, ctx.signal);
  } catch (error) {
    const { message } = notInterrupted(error, 'Cannot write to the repository');
    ctx.log.warn(`The damage could not be recorded, so backups still rely on the damaged packs: ${message}`);
  }
}
