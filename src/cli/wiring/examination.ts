import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isVisible } from '../../disk/is-there.ts';
import {
  composeStack,
  exposedConfiguration,
  journalOf,
  lastKitExport,
  openStore,
  runLogOf,
  unheldSecrets,
  withEverything,
  type WholeSettings,
} from '../../composition/index.ts';
import { abandonedScratch, earlierScratch } from '../../disk/run-scratch.ts';
import { ConfigurationError, toTarsError } from '../../model/errors.ts';
import type { Manifest } from '../../model/manifest.ts';
import { isOwnedBy } from '../../model/snapshot.ts';
import { scheduledTasks } from '../../model/schedule.ts';
import { error, examine, once, type Diagnosis, type HealthCheck } from '../../operations/doctor/doctor.ts';
import { careChecks, type CareUnderExamination } from '../../operations/doctor/care.ts';
import { retentionWarnings } from '../../operations/retention/retention-state.ts';
import { placeChecks, type ScratchLeftovers } from '../../operations/doctor/places.ts';
import { repositoryChecks, type RepositoryUnderExamination } from '../../operations/doctor/repository.ts';
import {
  examined,
  lookForLeftovers,
  stackChecks,
  type ExaminedComponent,
  type StackUnderExamination,
} from '../../operations/doctor/stack.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotSource } from '../../ports/snapshot-store.ts';
import { exposedFiles } from '../../settings/exposure.ts';
import { loadSettings } from '../../composition/settings.ts';
import { ownerOf, type Settings } from '../../settings/load.ts';
import type { Environment } from '../../model/environment.ts';
import { pathNeeds } from '../path-needs.ts';
import { scheduledBy } from './schedule.ts';

/** What hangs for longer is not going to work at night either. */
const limitMs = 30_000;

/**
 * Looks at every precondition of backups and restores and changes nothing; what is wrong with one hides nothing of
 * the others.
 */
export async function examineSetup(
  configPath: string | undefined,
  env: Environment,
  ctx: OperationContext,
): Promise<readonly Diagnosis[]> {
  let settings: Settings;
  try {
    settings = await loadSettings(configPath, env);
  } catch (cause) {
    const { message, hint } = toTarsError(cause, 'The configuration cannot be read');
    return [{ check: 'configuration', ...error(message, hint) }];
  }
  return examineSettings(settings, env, ctx);
}

/** {@link examineSetup} of settings that were read. */
export const examineSettings = async (
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<readonly Diagnosis[]> =>
  examine(await checksOf(await withEverything(settings, env, ctx), env), limitMs, ctx);

/** Nobody who asks how it stands waits longer for a store that does not answer. */
const leftoversLimitMs = 5000;

/**
 * What restores that are recorded here left in the stores and beside them, with the line that removes it, as far as it
 * can be seen at once. What a store does not say is left to {@link examineSetup}.
 */
export async function examineLeftovers(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<readonly Diagnosis[]> {
  const journal = journalOf(settings);
  // Looking into the stores may take containers: only where there was a restore. A record that cannot be read has been
  // named by now, as every verb looks for restores that were cut off.
  if (!(await journal.mayHaveLeft().catch(() => false))) return [];
  const whole = await withEverything(settings, env, ctx);
  const checks = componentsOf(whole.settings, env).map((component) => ({
    name: component.name,
    examine: (limited: OperationContext) => lookForLeftovers({ components: [component], journal }, limited),
  }));
  const found = await examine(checks, leftoversLimitMs, ctx);
  return found.filter(({ state }) => state === 'warning');
}

function componentsOf(settings: Settings, env: Environment): readonly ExaminedComponent[] {
  return Object.entries(settings.components).map(([name, component]) => {
    const { kind, service, places, configuration } = component;
    const known = {
      name,
      kind,
      service,
      scratch: places.scratch,
      isConfiguration: configuration !== undefined,
    };
    return examined(known, async () => {
      const stack = await composeStack(
        { ...settings, components: { [name]: component } },
        { includeModels: false, beside: settings.components },
        env,
      );
      const [composed] = stack.components;
      if (composed === undefined) throw new ConfigurationError(`There is no component ${name}`);
      return composed;
    });
  });
}

async function checksOf(
  { settings, placeNotes, atRisk }: WholeSettings,
  env: Environment,
): Promise<readonly HealthCheck[]> {
  const components = componentsOf(settings, env);
  const repository = repositoryOf(settings, components, env);
  const hasRepository = await isVisible(join(settings.repository.path, 'config'));
  return [
    ...careChecks(careOf(settings, env)),
    ...repositoryChecks(repository),
    ...placeChecks({
      needs: pathNeeds(settings, hasRepository),
      repositoryPath: settings.repository.path,
      scratchDir: settings.scratch_dir,
      leftovers: (now) => leftoversIn([...new Set([settings.scratch_dir, tmpdir()])], now),
      dataPaths: Object.values(settings.components).flatMap(({ places }) =>
        places.paths.map(({ path }) => path),
      ),
      components,
    }),
    ...stackChecks({
      ...(await stackOf(settings, components, repository, env)),
      ...{ placeNotes, atRisk },
      unheldSecrets: (ctx) => unheldSecrets(settings, env, ctx),
    }),
  ];
}

async function leftoversIn(places: readonly string[], now: Date): Promise<ScratchLeftovers> {
  const [abandoned, earlier] = await Promise.all([
    Promise.all(places.map(abandonedScratch)),
    Promise.all(places.map((place) => earlierScratch(place, now))),
  ]);
  return { abandoned: abandoned.flat(), earlier: earlier.flat() };
}

function repositoryOf(
  settings: Settings,
  components: readonly ExaminedComponent[],
  env: Environment,
): RepositoryUnderExamination & Pick<StackUnderExamination, 'lastSnapshot'> {
  const store = once((ctx) => openStore(settings, env, ctx));
  const snapshots = once(async (ctx) => {
    try {
      const all = await (await store(ctx)).list(ctx);
      return all.filter((snapshot) => isOwnedBy(snapshot, ownerOf(settings)));
    } catch {
      // The check of the repository itself says what is wrong.
      return undefined;
    }
  });
  const lastSnapshot = once(async (ctx): Promise<SnapshotSource | undefined> => {
    const last = (await snapshots(ctx))?.at(-1);
    return last && (await store(ctx)).peek(last.id, undefined, ctx);
  });
  const lastManifest = once(async (ctx): Promise<Manifest | undefined> =>
    (await lastSnapshot(ctx))?.manifest(ctx.signal),
  );
  const stackBytes = async (ctx: OperationContext): Promise<number> => {
    const probes = await Promise.allSettled(components.map(({ probe }) => probe(ctx)));
    return probes.reduce(
      (sum, probed) => sum + (probed.status === 'fulfilled' ? probed.value.sizeBytes : 0),
      0,
    );
  };
  return {
    owner: ownerOf(settings),
    path: settings.repository.path,
    backupCron: settings.schedule?.backup,
    lastKit: (repositoryId) => lastKitExport(settings.state_dir, repositoryId),
    ...{ store, snapshots, lastSnapshot, lastManifest, stackBytes },
  };
}

async function stackOf(
  settings: Settings,
  components: readonly ExaminedComponent[],
  { lastManifest, lastSnapshot }: Pick<StackUnderExamination, 'lastManifest' | 'lastSnapshot'>,
  env: Environment,
): Promise<StackUnderExamination> {
  const { runtime, journal, origin, provisioner } = await composeStack(
    { ...settings, components: {} },
    { includeModels: false, beside: settings.components },
    env,
  );
  return {
    stack: settings.stack,
    ...{ components, journal, origin, lastManifest, lastSnapshot, provisioner },
    keepsConfiguration:
      settings.secrets !== 'redact-only' &&
      Object.values(settings.components).some(({ configuration }) => configuration !== undefined),
    runtime: () => Promise.resolve(runtime),
    services: once((ctx) => runtime.discover(ctx)),
  };
}

function careOf(settings: Settings, env: Environment): CareUnderExamination {
  const { retention, schedule } = settings;
  const { after_backup: _, archives: _archives, keep_tags: tags = [], ...keeps } = retention ?? {};
  const times = scheduledTasks.flatMap((task) => {
    const cron = schedule?.[task];
    return cron === undefined ? [] : [[task, cron] as const];
  });
  return {
    settingsPath: settings.settingsPath,
    components: Object.keys(settings.components).length,
    host: settings.host,
    machineName: hostname(),
    exposed: async ({ signal }) => [
      ...new Set([...(await exposedFiles(settings, env)), ...(await exposedConfiguration(settings, signal))]),
    ],
    secrets: settings.secrets,
    recipients: settings.age_recipients.length,
    configurations: Object.entries(settings.components).flatMap(([name, { configuration }]) =>
      configuration === undefined ? [] : [{ name, identityFile: configuration.identityFile }],
    ),
    times: Object.fromEntries(times),
    scheduled: (ctx: OperationContext) => scheduledBy(settings, env, ctx),
    retentionWarnings: (now) => retentionWarnings(runLogOf(settings).runs(), now),
    keepsByPolicy: tags.length > 0 || Object.values(keeps).some((keep) => keep !== undefined),
  };
}
