import { isVisible } from '../../disk/is-there.ts';
import { dirname, resolve } from 'node:path';
import { openStoreAndPassword, runLogOf, storageOf, type SupportTools } from '../../composition/index.ts';
import { missingSource, type SupportSource } from '../../operations/support-bundle/source.ts';
import {
  containersSource,
  labelledComposeFiles,
} from '../../operations/support-bundle/sources/containers.ts';
import {
  configurationFile,
  configurationSources,
  directoryComposeSource,
  environmentSource,
} from '../../operations/support-bundle/sources/configuration.ts';
import { secretSource } from '../../operations/support-bundle/sources/files.ts';
import { journalSource, logFileSource } from '../../operations/support-bundle/sources/logs.ts';
import { versionsSource } from '../../operations/support-bundle/sources/machine.ts';
import { placesSource } from '../../operations/support-bundle/sources/places.ts';
import { reportSource, runsSource } from '../../operations/support-bundle/sources/reports.ts';
import {
  repositoryFilesSource,
  snapshotsSource,
} from '../../operations/support-bundle/sources/repository.ts';
import type { OperationContext } from '../../ports/context.ts';
import { settingsCandidates, type Settings } from '../../settings/load.ts';
import type { Environment } from '../../model/environment.ts';
import { componentPassword, furtherSecrets } from '../../settings/secrets.ts';
import { examineSetup } from './examination.ts';
import { statusReading } from './schedule.ts';

/** What opens the repository or asks every store may take this long. */
const patientLimitMs = 45_000;

/** What there is to know where `tars.yaml` can be read, and where it cannot. */
interface KnownSetup {
  /** Or why there are none. */
  readonly settings: Settings | string;
  readonly configPath: string | undefined;
  readonly env: Environment;
  readonly tools: SupportTools;
}

/** Everything that a support bundle is made of. Opens nothing yet. */
export async function supportSources({
  settings,
  configPath,
  env,
  tools,
}: KnownSetup): Promise<readonly SupportSource[]> {
  const files = await firstThere(settingsCandidates(configPath, env));
  const always = [
    versionsSource(tools.ask, tools.inspector),
    ...files.map(configurationFile),
    ...(files.length === 0 ? [missingSource('tars.yaml', 'There is none')] : []),
    environmentSource(env),
    reportSource('doctor', (ctx) => examineSetup(configPath, env, ctx), patientLimitMs),
  ];
  if (typeof settings === 'string') {
    return [
      ...always,
      directoryComposeSource((directory) => tools.composeFilesIn(directory)),
      placesSource({ 'current directory': resolve('.') }),
      missingSource(
        'status, runs, repository, containers and logs',
        `tars.yaml does not name their places: ${settings}`,
      ),
    ];
  }
  return [
    ...always,
    ...secretSources(settings, env),
    reportSource('status', (ctx) => statusReport(settings, env, ctx)),
    runsSource(() => runLogOf(settings)),
    ...configurationOf(settings, tools),
    repositoryFilesSource(storageOf(settings)),
    snapshotsSource((ctx) => openStoreAndPassword(settings, env, ctx), patientLimitMs),
    placesSource(placesOf(settings)),
    ...ownLogSources(settings, tools),
    ...serviceSources(settings, tools),
  ];
}

/** Passwords that the settings hold or name. */
function secretSources(settings: Settings, env: Environment): readonly SupportSource[] {
  const passwords = Object.entries(settings.components).map(([name, component]) =>
    secretSource(name, async () => [await componentPassword(component.secrets)]),
  );
  return [...passwords, secretSource('the repository', () => furtherSecrets(settings, env))];
}

async function firstThere(paths: readonly string[]): Promise<readonly string[]> {
  for (const path of paths) if (await isVisible(path)) return [path];
  return [];
}

async function statusReport(settings: Settings, env: Environment, ctx: OperationContext): Promise<object> {
  const { status, isStarted, daemon } = await statusReading(settings, env, ctx);
  return { ...status, started: isStarted, daemon };
}

/** What tars.yaml names, and where it names no Compose file, those that the containers were made from. */
function configurationOf(
  { docker, components }: Settings,
  { inspector }: SupportTools,
): readonly SupportSource[] {
  const captured = Object.values(components).flatMap(({ configuration }) => configuration?.files ?? []);
  const named = [...(docker?.compose_files ?? []), ...(docker?.env_files ?? [])];
  const isLabelled = inspector !== undefined && (docker?.compose_files.length ?? 0) === 0;
  return [
    ...configurationSources({ named, captured }),
    ...(isLabelled ? [labelledComposeFiles(inspector)] : []),
  ];
}

function placesOf({
  repository,
  state_dir: stateDir,
  scratch_dir: scratchDir,
  settingsPath,
}: Settings): Readonly<Record<string, string>> {
  return {
    ...{ repository: repository.path, 'state directory': stateDir, 'scratch directory': scratchDir },
    ...{ configuration: dirname(settingsPath), 'current directory': resolve('.') },
  };
}

/** Logs of tars itself: of what its schedule started. */
function ownLogSources({ stack }: Settings, { unitsOf, ask }: SupportTools): readonly SupportSource[] {
  if (unitsOf === undefined)
    return [missingSource('logs of tars', 'systemd does not run here; cron sends them by mail')];
  const units = unitsOf(stack);
  return [
    journalSource(units, 'logs/tars.log', ask),
    journalSource(units, 'logs/tars-user.log', ask, { user: true }),
  ];
}

function serviceSources(
  { docker, services }: Settings,
  { inspector, unitsOf, ask }: SupportTools,
): readonly SupportSource[] {
  const processes = Object.entries(services).flatMap(([name, { log_file: file, systemd_unit: unit }]) => [
    ...(file === undefined ? [] : [logFileSource(file, `logs/${name}`)]),
    ...(unit === undefined || unitsOf === undefined
      ? []
      : [journalSource([unit], `logs/${name}/journal.log`, ask)]),
  ]);
  const containers =
    inspector === undefined || docker === undefined ? [] : [containersSource(inspector, docker.project)];
  return [...processes, ...containers];
}
