import { kinds } from '../components/registry.ts';
import type { ComponentManifest } from '../model/manifest.ts';
import type { Amount } from '../model/shrinkage.ts';
import type { Environment } from '../model/environment.ts';
import type { ComponentRecovery } from '../operations/recovery-kit/recovery-kit.ts';
import type {
  ConfiguredComponent,
  InnerDatabase,
  KindProposal,
  Kinds,
  PortProbe,
  RecoveryHome,
  StoreKind,
} from '../ports/kind.ts';

/** The kind of that name; undefined for one that this version does not know, as a newer one may have written it. */
export const kindOf = (name: string, known: Kinds = kinds): StoreKind | undefined =>
  known.find((kind) => kind.name === name);

/** What a component of a snapshot holds beside bytes. */
export const countAmounts = (component: ComponentManifest): readonly Amount[] =>
  kindOf(component.kind)?.counts(component) ?? [];

/** Databases that lie in the directories of a component. */
export const databasesIn = (component: ComponentManifest): readonly InnerDatabase[] =>
  kindOf(component.kind)?.databases(component) ?? [];

/** How a component of a snapshot is recovered: by its settings, as long as they are of the kind that was captured. */
export function recoveryOf(
  { name, kind }: ComponentManifest,
  components: Readonly<Record<string, ConfiguredComponent>>,
  homes: Readonly<Record<string, RecoveryHome>>,
  known: Kinds = kinds,
): ComponentRecovery | undefined {
  const configured = components[name];
  const recovery = configured?.kind === kind ? configured.recovery : kindOf(kind, known)?.recovery;
  return recovery && { ...recovery, home: homes[name] ?? {} };
}

/** What `tars init` writes of the stores on this machine, found or not. */
export async function proposeStores(
  env: Environment,
  probe: PortProbe,
  known: Kinds = kinds,
): Promise<readonly KindProposal[]> {
  const proposals = known.map(async ({ name, machine }) => {
    const proposal = await machine?.propose(env, probe);
    return proposal === undefined ? [] : [{ kind: name, ...proposal }];
  });
  return (await Promise.all(proposals)).flat();
}
