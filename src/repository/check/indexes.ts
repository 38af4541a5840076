import { createHash } from 'node:crypto';
import type { OperationContext } from '../../ports/context.ts';
import { BlobIndex } from '../blobs/blob-index.ts';
import type { Findings } from './findings.ts';
import { decodeIndexFile, type IndexedPack, type IndexFile } from '../format/index-file.ts';
import { packSizeBytes } from '../format/pack.ts';
import type { OpenedRepository } from '../open.ts';

/** What the indexes say about one pack. */
interface PackSummary {
  /** The size that follows from its blobs; undefined when indexes disagree about them. */
  readonly sizeBytes: number | undefined;
  /** Of its entries, in order. */
  readonly fingerprint: string;
}

/** All indexes of the repository together. */
export interface IndexView {
  readonly blobs: BlobIndex;
  readonly packs: ReadonlyMap<string, PackSummary>;
  /** Names of the index files that could be read. */
  readonly names: readonly string[];
  /** Packs that an earlier check found damaged. */
  readonly damaged: ReadonlySet<string>;
}

/** One index file, the blobs of a pack in the order in which they lie. @throws CorruptionError */
export async function loadIndexFile(
  repo: OpenedRepository,
  name: string,
  signal: AbortSignal,
): Promise<IndexFile> {
  const { packs, damaged } = decodeIndexFile(await repo.loadUnpacked('index', name, signal), name);
  return {
    packs: packs.map(({ id, blobs }) => ({
      id,
      blobs: blobs.toSorted((a, b) => a.offsetBytes - b.offsetBytes),
    })),
    damaged,
  };
}

/** The packs in {@link loadIndexFile}. @throws CorruptionError */
export async function loadIndexedPacks(
  repo: OpenedRepository,
  name: string,
  signal: AbortSignal,
): Promise<readonly IndexedPack[]> {
  return (await loadIndexFile(repo, name, signal)).packs;
}

/** Loads every index file, one in memory at a time beside what is kept of them. */
export async function checkIndexes(
  repo: OpenedRepository,
  names: readonly string[],
  findings: Findings,
  ctx: OperationContext,
): Promise<IndexView> {
  const blobs = new BlobIndex();
  const packs = new Map<string, PackSummary>();
  const damaged = new Set<string>();
  const readable: string[] = [];
  for (const name of names) {
    const subject = `index/${name}`;
    const loaded = await findings.examine(subject, 'index-damaged', () =>
      loadIndexFile(repo, name, ctx.signal),
    );
    if (loaded === undefined) continue;
    readable.push(name);
    for (const id of loaded.damaged) damaged.add(id);
    for (const pack of loaded.packs) {
      blobs.addPack(pack);
      packs.set(pack.id, summarise(pack, packs.get(pack.id), subject, findings));
    }
  }
  return { blobs, packs, names: readable, damaged };
}

function summarise(
  pack: IndexedPack,
  known: PackSummary | undefined,
  subject: string,
  findings: Findings,
): PackSummary {
  const fingerprint = createHash('sha256').update(JSON.stringify(pack.blobs)).digest('base64');
  if (known === undefined) return { sizeBytes: packSizeBytes(pack.blobs), fingerprint };
  // Once is enough, however many indexes there are and whichever is read first.
  if (known.fingerprint === fingerprint || known.sizeBytes === undefined) return known;
  findings.add(
    'warning',
    subject,
    'pack-indexed-differently',
    `Two indexes describe pack ${pack.id} differently; "restic repair index" repairs this`,
  );
  return { sizeBytes: undefined, fingerprint: known.fingerprint };
}
