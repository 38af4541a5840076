import { throwIfAborted } from '../../model/abort.ts';
import { TarsError } from '../../model/errors.ts';
import type { Manifest } from '../../model/manifest.ts';
import { isOwnedBy, shortId, type SnapshotOwner, type SnapshotSummary } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotSource, SnapshotStore } from '../../ports/snapshot-store.ts';

/** So many snapshots of the stack on its host are looked into, the newest first. */
const lookMax = 100;

/**
 * Says that `source` does not hold all of `wanted`, be it that a capture failed or that it was skipped on request,
 * and names the newest snapshot that does.
 * @param store undefined for an archive, which stands alone
 */
export async function warnOfMissing(
  wanted: readonly string[],
  source: SnapshotSource,
  store: SnapshotStore | undefined,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const manifest = await source.manifest(ctx.signal);
  const missing = wanted.filter((name) => !holds(manifest, name));
  if (missing.length === 0) return [];
  const without = `Snapshot ${shortId(source.summary.id)} does not hold ${missing.join(', ')}`;
  if (store === undefined) return [without];
  const whole = await newestWith(wanted, manifest, store, ctx);
  const other =
    whole === undefined
      ? 'no other snapshot has all components'
      : `the newest snapshot with all components is ${shortId(whole.id)} of ${whole.time.toISOString()}`;
  return [`${without}; ${other}`];
}

const holds = ({ components }: Manifest, name: string): boolean =>
  components.some((component) => component.name === name && component.outcome === 'captured');

async function newestWith(
  names: readonly string[],
  owner: SnapshotOwner,
  store: SnapshotStore,
  ctx: OperationContext,
): Promise<SnapshotSummary | undefined> {
  const snapshots = (await store.list(ctx)).filter((summary) => isOwnedBy(summary, owner));
  for (const summary of snapshots.reverse().slice(0, lookMax)) {
    try {
      await using source = await store.open(summary.id, owner, ctx);
      const manifest = await source.manifest(ctx.signal);
      if (names.every((name) => holds(manifest, name))) return summary;
    } catch (error) {
      throwIfAborted(ctx.signal);
      // Only a hint depends on it: one that cannot be read is none to point to.
      if (!(error instanceof TarsError)) throw error;
    }
  }
  return undefined;
}
