import { withArtifacts } from '../../model/artifact-list.ts';
import type { Manifest } from '../../model/manifest.ts';
import type { RecoveryKit, RecoveryStep } from '../../model/recovery-kit.ts';
import { isOwnedBy, type SnapshotOwner, type SnapshotSummary } from '../../model/snapshot.ts';
import { toolVersion } from '../../model/version.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotStore } from '../../ports/snapshot-store.ts';

/** What a recovery kit is made of. */
interface KitSources {
  readonly owner: SnapshotOwner;
  /** Where the repository is. */
  readonly location: string;
  readonly store: Pick<SnapshotStore, 'id' | 'list' | 'open'>;
  /** What opens it. */
  readonly key: string;
  /** Age recipients of sealed configuration. */
  readonly recipients: readonly string[];
  /** Whether steps name single artifacts of components of this kind. */
  readonly namesArtifacts: (kind: string) => boolean;
  /** The steps of a recovery; of none but the repository while there is no snapshot. */
  readonly stepsFor: (newest: Manifest | undefined) => readonly RecoveryStep[];
}

/** Makes the recovery kit of a stack from its newest snapshot. */
export async function makeKit(sources: KitSources, ctx: OperationContext): Promise<RecoveryKit> {
  const { owner, location, store, key, recipients, stepsFor } = sources;
  const newest = await newestSnapshot(sources, ctx);
  return {
    ...{ ...owner, toolVersion, exportedAt: ctx.clock.now(), key },
    repository: { location, id: store.id },
    snapshot: newest === undefined ? undefined : snapshotOf(newest),
    remarks:
      recipients.length === 0
        ? []
        : [
            `Sealed configuration needs the age identity of ${recipients.join(' or ')}; this page does not hold it.`,
          ],
    steps: stepsFor(newest?.manifest),
  };
}

interface Newest {
  readonly summary: SnapshotSummary;
  readonly manifest: Manifest;
}

const snapshotOf = ({ summary, manifest }: Newest): RecoveryKit['snapshot'] => ({
  id: summary.id,
  time: summary.time,
  partial: manifest.outcome === 'partial',
});

/** The newest complete snapshot; a partial one when there is no other. */
async function newestSnapshot(
  { owner, store, namesArtifacts }: KitSources,
  ctx: OperationContext,
): Promise<Newest | undefined> {
  const own = (await store.list(ctx)).filter((summary) => isOwnedBy(summary, owner));
  const chosen = own.findLast(({ tags }) => !tags.includes('partial')) ?? own.at(-1);
  if (chosen === undefined) return undefined;
  await using source = await store.open(chosen.id, undefined, ctx);
  const manifest = await source.manifest(ctx.signal);
  // The page names single artifacts of stores. Of directories it names none, however many they have.
  const components = manifest.components.map((component) =>
    namesArtifacts(component.kind)
      ? withArtifacts(component, source, ctx.signal)
      : Promise.resolve(component),
  );
  return { summary: chosen, manifest: { ...manifest, components: await Promise.all(components) } };
}
