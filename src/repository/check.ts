import { hasErrors } from '../model/finding.ts';
import type { OperationContext } from '../ports/context.ts';
import type { CheckReport } from '../ports/snapshot-store.ts';
import { BlobReader } from './blob-reader.ts';
import { checkConfig, checkKeys, checkLocks, checkSnapshotFiles, namesOf } from './check-documents.ts';
import { Findings } from './check-findings.ts';
import { checkIndexes } from './check-indexes.ts';
import { checkPackFiles, listPacks, PackReading } from './check-packs.ts';
import { BlobHealth, TreeCheck } from './check-trees.ts';
import type { OpenedRepository } from './open.ts';

/**
 * Examines the whole repository: every key, lock, index and snapshot file is what its name says and can be parsed;
 * every indexed pack is there with the size its blobs give it; every blob that a snapshot needs is indexed. With
 * `readData` every pack is read, too: its hash, its header against the index, every blob authenticated,
 * decompressed and hashed. Goes on after a problem; each is a finding, and so is every snapshot it affects, with
 * the paths concerned.
 *
 * Hold a lock meanwhile: without one a prune may remove what is being read.
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
  await checkLocks(repo, findings, ctx);

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
  const readBytes = options.readData
    ? await new PackReading(repo, index, sizes, health, findings, ctx).run()
    : 0;
  if (hasErrors(findings.all)) await trees.reportAffected(snapshots);
  return {
    findings: findings.all,
    snapshots: snapshotNames.length,
    packs: index.packs.size,
    blobs: index.blobs.size,
    readBytes,
  };
}
