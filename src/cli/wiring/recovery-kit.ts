import { composeStack, kindOf, recoveryOf } from '../../composition/index.ts';
import { toTarsError } from '../../model/errors.ts';
import { throwIfAborted } from '../../model/abort.ts';
import type { ComponentManifest, ImpliedComponent } from '../../model/manifest.ts';
import type { Environment } from '../../model/environment.ts';
import { keyCheck, type RecoveryKit } from '../../model/recovery-kit.ts';
import { makeKit } from '../../operations/recovery-kit/make-kit.ts';
import { recoverySteps } from '../../operations/recovery-kit/recovery-kit.ts';
import { startCommands } from '../../operations/recovery-kit/start-commands.ts';
import type { Component } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RecoveryHome } from '../../ports/kind.ts';
import type { SnapshotStore } from '../../ports/snapshot-store.ts';
import { ownerOf, type Settings } from '../../settings/load.ts';

/** Makes the recovery kit of the stack of `settings`, whose repository `key` opens. */
export async function recoveryKit(
  settings: Settings,
  { key, store }: { readonly key: string; readonly store: SnapshotStore },
  env: Environment,
  ctx: OperationContext,
): Promise<RecoveryKit> {
  const { components, services, repository, age_recipients: recipients } = settings;
  const owner = ownerOf(settings);
  const homes = await homesOf(settings, env, ctx);
  // Their data was restored through them.
  const running = new Set(
    Object.values(components).flatMap(({ recovery, service }) =>
      recovery.phase === 'running' ? [service] : [],
    ),
  );
  const facts = {
    ...owner,
    repository: repository.path,
    repositoryId: store.id,
    keyCheck: keyCheck(key),
  };
  const starts = startCommands(services, running);
  return makeKit(
    {
      ...{ owner, location: repository.path, store, key, recipients },
      namesArtifacts: (kind) => kindOf(kind)?.recovery.namesArtifacts !== false,
      stepsFor: (manifest) => {
        const implied = Object.fromEntries((manifest?.implied ?? []).map(homeOf));
        const places = { ...implied, ...homes };
        const recovery = (component: ComponentManifest) => recoveryOf(component, components, places);
        return recoverySteps({ ...facts, manifest, starts, recoveryOf: recovery });
      },
    },
    ctx,
  );
}

/** Where a directory belongs that `tars.yaml` does not name. */
const homeOf = ({ component, service }: ImpliedComponent): readonly [string, RecoveryHome] => [
  component,
  { service, inContainer: true },
];

async function homesOf(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<Readonly<Record<string, RecoveryHome>>> {
  const homes = Object.entries(settings.components).map(
    ([name, { recovery }]) => [name, recovery.home] as const,
  );
  if (settings.docker === undefined) return Object.fromEntries(homes);
  const { components } = await composeStack(settings, { includeModels: false }, env);
  const inContainers = new Map(
    await Promise.all(
      components.map(async (component) => [component.name, await containerHome(component, ctx)] as const),
    ),
  );
  return Object.fromEntries(homes.map(([name, home]) => [name, { ...home, ...inContainers.get(name) }]));
}

/** Where a store of a Compose project keeps its data, as its container sees it. */
async function containerHome(
  component: Component,
  ctx: OperationContext,
): Promise<Pick<RecoveryHome, 'directory' | 'inContainer'>> {
  try {
    const [place] = (await component.places?.(ctx)) ?? [];
    if (place === undefined || !('store' in place) || place.service === undefined) return {};
    return { directory: place.store, inContainer: true };
  } catch (error) {
    throwIfAborted(ctx.signal);
    const { message } = toTarsError(error, `Cannot find out where ${component.name} keeps its data`);
    ctx.log.warn(
      `${message}. The page does not name its directory. Export it again after you have fixed this`,
    );
    return {};
  }
}
