import { throwIfAborted } from '../../model/abort.ts';
import { counted } from '../../model/plural.ts';
import { shortId } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { PackHealth } from '../../ports/snapshot-store.ts';
import { BlobIndex } from '../blobs/blob-index.ts';
import { enumerate } from './findings.ts';
import { decodeIndexFile, encodeDamagedPacks, type IndexFile } from '../format/index-file.ts';
import { packSizeBytes } from '../format/pack.ts';
import type { OpenedRepository } from '../open.ts';

/** What the index promises, held against what is there. */
interface ComparedIndex {
  /** Everything that is indexed. */
  readonly blobs: BlobIndex;
  readonly names: readonly string[];
  readonly health: PackHealth;
}

/** What a new snapshot works with. */
interface TrustedIndex {
  /** Everything that is indexed: for reading earlier snapshots. */
  readonly all: BlobIndex;
  /** What a new snapshot may rely on. */
  readonly trusted: BlobIndex;
}

/**
 * The index, and of it the blobs in a pack which is there, has the size that its entries make, and was not found
 * damaged by a check. Of other packs a new snapshot may rely on nothing: what it needs of them is stored again. Warns of
 * those.
 * @throws CorruptionError when an index file is damaged
 */
export async function loadTrustedIndex(
  repository: OpenedRepository,
  ctx: OperationContext,
): Promise<TrustedIndex> {
  const { blobs, names, health } = await compare(repository, ctx);
  const distrusted = new Set([...health.missing, ...health.misfit, ...health.damaged]);
  if (distrusted.size === 0) return { all: blobs, trusted: blobs };
  ctx.log.warn(
    `${describePackHealth(health)}. This backup stores the data that it needs from them again; "tars check" names the snapshots that need the rest`,
  );
  const trusted = new BlobIndex();
  for (const name of names) {
    const { packs } = await loadFile(repository, name, ctx);
    for (const pack of packs) if (!distrusted.has(pack.id)) trusted.addPack(pack);
  }
  return { all: blobs, trusted };
}

/** The packs a new snapshot would not rely on. Reads no pack. @throws CorruptionError when an index file is damaged */
export async function examinePacks(repository: OpenedRepository, ctx: OperationContext): Promise<PackHealth> {
  return (await compare(repository, ctx)).health;
}

/** Such as `2 packs are missing (0a1b2c3d, 4e5f6a7b) and 1 pack was found damaged (8c9d0e1f)`. */
function describePackHealth({ missing, misfit, damaged }: PackHealth): string {
  const part = (ids: readonly string[], one: string, many: string): string[] => {
    if (ids.length === 0) return [];
    const names = enumerate(ids.map(shortId), ids.length, ', ');
    return [`${counted(ids.length, 'pack')} ${ids.length === 1 ? one : many} (${names})`];
  };
  return [
    ...part(missing, 'is missing', 'are missing'),
    ...part(misfit, 'has the wrong size', 'have the wrong size'),
    ...part(damaged, 'was found damaged', 'were found damaged'),
  ].join(', ');
}

/**
 * Records for every machine that these packs are damaged: in an index file without a pack, which restic passes over. No
 * pack is changed or removed by it. Only a prune takes a record back, which reads those packs itself.
 */
export async function recordDamagedPacks(
  repository: OpenedRepository,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await repository.saveUnpacked('index', encodeDamagedPacks(ids), signal);
}

/** Indexes are listed before packs, so that what a backup stores meanwhile is not taken for missing. */
async function compare(repository: OpenedRepository, ctx: OperationContext): Promise<ComparedIndex> {
  const blobs = new BlobIndex();
  const promised = new Map<string, number | undefined>();
  const marked = new Set<string>();
  const names = await Array.fromAsync(repository.storage.list('index', ctx.signal), ({ name }) => name);
  for (const name of names) {
    const { packs, damaged } = await loadFile(repository, name, ctx);
    for (const id of damaged) marked.add(id);
    for (const pack of packs) {
      blobs.addPack(pack);
      const sizeBytes = packSizeBytes(pack.blobs);
      const known = promised.has(pack.id) ? promised.get(pack.id) : sizeBytes;
      // Where two describe it differently, nobody knows its size.
      promised.set(pack.id, known === sizeBytes ? sizeBytes : undefined);
    }
  }
  const found = new Map<string, number>();
  for await (const { name, sizeBytes } of repository.storage.list('data', ctx.signal)) {
    throwIfAborted(ctx.signal);
    found.set(name, sizeBytes);
  }
  return { blobs, names, health: judge(promised, found, marked) };
}

function judge(
  promised: ReadonlyMap<string, number | undefined>,
  found: ReadonlyMap<string, number>,
  marked: ReadonlySet<string>,
): PackHealth {
  const missing: string[] = [];
  const misfit: string[] = [];
  const damaged: string[] = [];
  for (const [id, sizeBytes] of promised) {
    const foundBytes = found.get(id);
    if (foundBytes === undefined) missing.push(id);
    else if (sizeBytes !== undefined && foundBytes !== sizeBytes) misfit.push(id);
    else if (marked.has(id)) damaged.push(id);
  }
  return { missing, misfit, damaged };
}

async function loadFile(
  repository: OpenedRepository,
  name: string,
  { signal }: OperationContext,
): Promise<IndexFile> {
  throwIfAborted(signal);
  return decodeIndexFile(await repository.loadUnpacked('index', name, signal), name);
}
