import type { RemoteDirectory } from '../../../ports/store-place.ts';
import type { VolumeListing } from '../../../ports/volume.ts';
import type { HttpWay } from '../http/index.ts';
import { PhysicalCapture } from '../physical/capture.ts';
import type { ChromaStore, ChromaWay } from '../way.ts';
import { FrozenCopy, requireSqlite, totalBytes } from './frozen-copy.ts';

/**
 * Captured physically from a copy that is taken while Chroma is frozen, where no lock of ours reaches its files. What
 * remains is asked of the server; {@link createMirroredComponent} restores its files.
 */
export function frozenWay(
  { name }: ChromaStore,
  remote: RemoteDirectory,
  scratchDir: string,
  http: HttpWay,
): ChromaWay {
  const { label } = remote.volume;
  return {
    ...http,
    async probe(ctx) {
      await using volume = await remote.volume.open('read', ctx);
      const listing: VolumeListing | undefined = await volume.list(ctx.signal);
      requireSqlite(listing, label);
      const { warnings: _, ...server } = await http.probe(ctx);
      const warning = `${name} is frozen for moments while ${label} is copied: this user cannot lock files there`;
      return { ...server, sizeBytes: totalBytes(listing), warnings: [warning] };
    },
    async prepare(ctx) {
      const version = await http.version(ctx);
      return new PhysicalCapture(name, version, await FrozenCopy.prepare(remote, scratchDir, ctx), ctx);
    },
  };
}
