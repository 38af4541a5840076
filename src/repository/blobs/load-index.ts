import { throwIfAborted } from '../../model/abort.ts';
import type { OperationContext } from '../../ports/context.ts';
import { BlobIndex } from './blob-index.ts';
import { decodeIndex } from '../format/index-file.ts';
import type { OpenedRepository } from '../open.ts';

/**
 * Reads all index files. Whoever means to read snapshots lists those first: what a snapshot refers to is indexed
 * before the snapshot appears (restic `doc/design.rst`, "Read and Write Ordering").
 * @throws CorruptionError when an index file is damaged
 */
export async function loadBlobIndex(repository: OpenedRepository, ctx: OperationContext): Promise<BlobIndex> {
  const index = new BlobIndex();
  for await (const { name } of repository.storage.list('index', ctx.signal)) {
    throwIfAborted(ctx.signal);
    const json = await repository.loadUnpacked('index', name, ctx.signal);
    for (const pack of decodeIndex(json, name)) index.addPack(pack);
  }
  return index;
}
