import { shortId } from '../../../model/snapshot.ts';
import type { SnapshotStore } from '../../../ports/snapshot-store.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { StorageBackend, StorageFileType } from '../../../ports/storage.ts';
import { report, type SupportSource } from '../source.ts';

const types = [
  'config',
  'keys',
  'data',
  'index',
  'snapshots',
  'locks',
] as const satisfies readonly StorageFileType[];
/** More snapshots than these are counted, not listed: the newest are. */
const snapshotsMax = 500;

/** Numbers and sizes of the repository's files, which need no password. */
export const repositoryFilesSource = (storage: StorageBackend): SupportSource => ({
  name: 'files of the repository',
  async collect({ signal }) {
    const counts = await Promise.all(
      types.map(async (type) => [type, await sizesOf(storage, type, signal)] as const),
    );
    return {
      files: [
        report('repository/files.json', storage.location, {
          location: storage.location,
          ...Object.fromEntries(
            counts.map(([type, sizes]) => [type === 'data' ? 'packs' : `${type}Files`, sizes]),
          ),
        }),
      ],
      omitted: [
        { what: 'names and content of key files', why: 'They hold the sealed key of the repository' },
      ],
    };
  },
});

interface Sizes {
  readonly count: number;
  readonly bytes: number;
  readonly smallestBytes?: number;
  readonly medianBytes?: number;
  readonly largestBytes?: number;
}

async function sizesOf(storage: StorageBackend, type: StorageFileType, signal: AbortSignal): Promise<Sizes> {
  const sizes: number[] = [];
  for await (const { sizeBytes } of storage.list(type, signal)) sizes.push(sizeBytes);
  sizes.sort((a, b) => a - b);
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  const [smallestBytes, largestBytes, medianBytes] = [sizes[0], sizes.at(-1), sizes[sizes.length >> 1]];
  if (smallestBytes === undefined || largestBytes === undefined || medianBytes === undefined)
    return { count: 0, bytes: 0 };
  return { count: sizes.length, bytes, smallestBytes, medianBytes, largestBytes };
}

/** Snapshots, locks and the health of packs, which need the password. No name of what is in a snapshot. */
export const snapshotsSource = (
  open: (ctx: OperationContext) => Promise<{ readonly store: SnapshotStore; readonly password: string }>,
  limitMs: number,
): SupportSource => ({
  ...{ name: 'snapshots', limitMs },
  async collect(ctx) {
    const { store: opened, password } = await open(ctx);
    await using store = opened;
    const snapshots = await store.list(ctx);
    const packs = await store.examinePacks(ctx);
    return {
      secrets: [password],
      files: [
        report('repository/snapshots.json', store.location, {
          repository: shortId(store.id),
          formatVersion: store.formatVersion,
          locks: await store.holders(ctx),
          packs: {
            missing: packs.missing.length,
            misfit: packs.misfit.length,
            damaged: packs.damaged.length,
          },
          snapshots: snapshots.length,
          newest: snapshots
            .slice(-snapshotsMax)
            .map(({ id, time, stack, hostname, tags, program, addedBytes }) => ({
              ...{ id: shortId(id), time, stack, host: hostname, tags, program, addedBytes },
            })),
        }),
      ],
      omitted: [{ what: 'names of files in snapshots', why: 'They are data of the stack' }],
    };
  },
});
