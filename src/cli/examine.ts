import { access } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { composeStack, openStore, runLogOf, schedulerFor, stackClaimsOf, systemdRuns } from '../compose.ts';
import { abandonedScratch, earlierScratch } from '../disk/run-scratch.ts';
import { ConfigurationError, toTarsError } from '../model/errors.ts';
import type { Manifest } from '../model/manifest.ts';
import { counted } from '../model/plural.ts';
import { scheduledTasks } from '../model/schedule.ts';
import { error, examine, ok, once, type Diagnosis, type HealthCheck } from '../operations/doctor.ts';
import { careChecks, type CareUnderExamination, type Scheduled } from '../operations/doctor-care.ts';
import { retentionWarnings } from '../operations/retention-state.ts';
import { placeChecks, type ScratchLeftovers } from '../operations/doctor-places.ts';
import { repositoryChecks, type RepositoryUnderExamination } from '../operations/doctor-repository.ts';
import {
  examined,
  stackChecks,
  type ExaminedComponent,
  type StackUnderExamination,
} from '../operations/doctor-stack.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotSource } from '../ports/snapshot-store.ts';
import { exposedFiles } from '../settings/exposure.ts';
import { loadSettings, type Environment, type Settings } from '../settings/load.ts';
import { lastKitExport } from './kit-record.ts';
import { dataPathsOf, pathNeeds } from './path-needs.ts';
import { requirePortable, scheduledStack } from './scheduling.ts';

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
  return examine(await checksOf(settings, env), limitMs, ctx);
}

async function checksOf(settings: Settings, env: Environment): Promise<readonly HealthCheck[]> {
  const components = Object.entries(settings.components).map(([name, component]) =>
    examined({ name, kind: component.kind, service: component.service }, async () => {
      const stack = await composeStack(
        { ...settings, components: { [name]: component } },
        { includeModels: false },
        env,
      );
      const [composed] = stack.components;
      if (composed === undefined) throw new ConfigurationError(`There is no component ${name}`);
      return composed;
    }),
  );
  const repository = repositoryOf(settings, components, env);
  const hasRepository = await exists(join(settings.repository.path, 'config'));
  return [
    { name: 'configuration', look: () => Promise.resolve([lookAtConfiguration(settings)]) },
    ...careChecks(await careOf(settings, env)),
    ...repositoryChecks(repository),
    ...placeChecks({
      needs: pathNeeds(settings, hasRepository),
      repositoryPath: settings.repository.path,
      scratchDir: settings.scratch_dir,
      leftovers: (now) => leftoversIn([...new Set([settings.scratch_dir, tmpdir()])], now),
      dataPaths: Object.values(settings.components).flatMap(dataPathsOf),
      components,
    }),
    ...stackChecks(await stackOf(settings, components, repository, env)),
  ];
}

async function leftoversIn(places: readonly string[], now: Date): Promise<ScratchLeftovers> {
  const [abandoned, earlier] = await Promise.all([
    Promise.all(places.map(abandonedScratch)),
    Promise.all(places.map((place) => earlierScratch(place, now))),
  ]);
  return { abandoned: abandoned.flat(), earlier: earlier.flat() };
}

function lookAtConfiguration({ settingsPath, components }: Settings) {
  const count = Object.keys(components).length;
  if (count > 0) return ok(`${settingsPath} is right: ${counted(count, 'component')}`);
  return error(
    `${settingsPath} names no component, so there is nothing to back up`,
    'Fill in its components section: the comments in it show how.',
  );
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
      return all.filter(({ stack }) => stack === settings.stack);
    } catch {
      // The check of the repository itself says what is wrong.
      return undefined;
    }
  });
  const lastSnapshot = once(async (ctx): Promise<SnapshotSource | undefined> => {
    const last = (await snapshots(ctx))?.at(-1);
    return last && (await store(ctx)).peek(last.id, settings.stack, ctx);
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
    stack: settings.stack,
    path: settings.repository.path,
    backupRhythm: settings.schedule?.backup,
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
  const { runtime, journal } = await composeStack(
    { ...settings, components: {} },
    { includeModels: false },
    env,
  );
  return {
    stack: settings.stack,
    ...{ components, journal, lastManifest, lastSnapshot },
    runtime: () => Promise.resolve(runtime),
    services: once((ctx) => runtime.discover(ctx)),
  };
}

async function careOf(settings: Settings, env: Environment): Promise<CareUnderExamination> {
  const { retention, schedule } = settings;
  const { after_backup: _, archives: _archives, keep_tags: tags = [], ...keeps } = retention ?? {};
  const rhythms = scheduledTasks.flatMap((task) => {
    const rhythm = schedule?.[task];
    return rhythm === undefined ? [] : [[task, rhythm] as const];
  });
  return {
    exposed: await exposedFiles(settings),
    secrets: settings.secrets,
    recipients: settings.age_recipients.length,
    configurations: Object.entries(settings.components).flatMap(([name, component]) =>
      component.kind === 'config' ? [{ name, identityFile: component.age_identity_file }] : [],
    ),
    rhythms: Object.fromEntries(rhythms),
    scheduled: (ctx: OperationContext) => scheduledBy(settings, env, ctx),
    retentionWarnings: (now) => retentionWarnings(runLogOf(settings).runs(), now),
    keepsByPolicy: tags.length > 0 || Object.values(keeps).some((keep) => keep !== undefined),
  };
}

/** By whichever of systemd, cron and a daemon has it. */
async function scheduledBy(settings: Settings, env: Environment, ctx: OperationContext): Promise<Scheduled> {
  const lacks = await requirePortable(settings, env).then(
    () => undefined,
    (cause: unknown) => toTarsError(cause, 'A scheduled run may lack something'),
  );
  const systemd = systemdRuns()
    ? [schedulerFor('systemd', { user: false }), schedulerFor('systemd', { user: true })]
    : [];
  const found = await Promise.all(
    [...systemd, schedulerFor('cron', { user: false })].map(async (scheduler) => {
      try {
        const { state, leftovers } = await scheduler.planInstall(scheduledStack(settings), ctx);
        return { state, by: scheduler.name, leftovers };
      } catch {
        // It is not here, or cannot say this schedule: then it has none of it.
        return { state: 'absent' as const, by: undefined, leftovers: [] };
      }
    }),
  );
  const leftovers = [...new Set(found.flatMap((each) => each.leftovers))];
  const daemon = await stackClaimsOf(settings).holder('daemon');
  if (daemon !== undefined)
    return { state: 'installed', by: `tars ${daemon.verb}`, leftovers, lacks: undefined };
  const best =
    found.find(({ state }) => state === 'installed') ?? found.find(({ state }) => state === 'differs');
  return { state: best?.state ?? 'absent', by: best?.by, leftovers, lacks };
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
