import { join } from 'node:path';
import { openArchive, verifyArchive } from '../archive/read.ts';
import { createArchiveShelf } from '../archive/shelf.ts';
import { createArchiveDestination, type ArchiveCompression } from '../archive/write.ts';
import type { StackOverrides, StackContext } from './components.ts';
import { placesOfTars } from './reserved-places.ts';
import type { FoundProject, ProjectSelector } from '../runtimes/docker/discovery/take-inventory.ts';
import { TarsError } from '../model/errors.ts';
import type { Finding } from '../model/finding.ts';
import { kinds } from '../components/registry.ts';
import type { Component } from '../ports/component.ts';
import type { OperationContext } from '../ports/context.ts';
import type { StackInventory } from '../ports/inventory.ts';
import { isRestoreOf } from '../operations/restore/recover.ts';
import type { RestoreJournal, RestoreOrigin } from '../ports/journal.ts';
import type { Provisioner } from '../ports/provisioner.ts';
import type { RunLog, StackClaims } from '../ports/run-log.ts';
import type { Guardian, Runtime } from '../ports/runtime.ts';
import type { Scheduler } from '../ports/scheduler.ts';
import type { SnapshotShelf } from '../ports/snapshot-shelf.ts';
import type { SnapshotDestination, SnapshotSource, SnapshotStore } from '../ports/snapshot-store.ts';
import type { StorageBackend } from '../ports/storage.ts';
import { userName } from '../repository/lock/lock-record.ts';
import { createRepository } from '../repository/open.ts';
import { openSnapshotStore } from '../repository/repository.ts';
import { createGuardian } from '../runtimes/guardian/index.ts';
import { createProcessRuntime } from '../runtimes/process/index.ts';
import { createCronScheduler } from '../runtimes/schedulers/cron.ts';
import { createSystemdScheduler } from '../runtimes/schedulers/systemd.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';
import type { Manifest } from '../model/manifest.ts';
import type { WholeSettings } from './everything.ts';
import type { ServiceSettings } from '../settings/schema.ts';
import {
  componentPassword,
  furtherSecrets,
  readPasswordFile,
  repositoryPasswords,
  type CapturedFile,
} from '../settings/secrets.ts';
import { createFileJournal } from '../storage/journal/file-journal.ts';
import { createRepositoryMark, type RepositoryMark } from '../storage/journal/repository-mark.ts';
import { createRunLog, type RunOwner } from '../storage/journal/run-log.ts';
import { lastChange, markSchedule } from '../storage/journal/schedule-mark.ts';
import { createStackClaims } from '../storage/journal/stack-claims.ts';
import { createLocalStorage } from '../storage/local/local-storage.ts';

export { lastKitExport, recordKitExport } from './kit-record.ts';
export type { WholeSettings } from './everything.ts';
export { countAmounts, databasesIn, kindOf, proposeStores, recoveryOf } from './kinds.ts';
export { systemClock } from '../runtimes/system-clock.ts';

/** The configured stack with every adapter in place. */
export interface Stack {
  readonly name: string;
  readonly hostname: string;
  readonly username: string;
  readonly components: readonly Component[];
  readonly runtime: Runtime;
  readonly guardian: Guardian;
  readonly journal: RestoreJournal;
  /** Whose restores are recorded. */
  readonly origin: RestoreOrigin;
  readonly pauseMaxMs: number;
  /** What services run in; undefined for plain processes. */
  readonly provisioner: Provisioner | undefined;
}

/** See {@link import('./everything.ts').withEverything}. */
export async function withEverything(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
  overrides: StackOverrides = { includeModels: false },
): Promise<WholeSettings> {
  return (await import('./everything.ts')).withEverything(settings, overrides, env, ctx);
}

/** See {@link import('./everything.ts').unheldSecrets}. */
export async function unheldSecrets(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<readonly string[]> {
  return (await import('./everything.ts')).unheldSecrets(settings, env, ctx);
}

/** See {@link import('./everything.ts').withImplied}. */
export async function withImplied(
  settings: Settings,
  manifest: Pick<Manifest, 'implied' | 'impliedFiles'>,
): Promise<Settings> {
  return manifest.implied === undefined && manifest.impliedFiles === undefined
    ? settings
    : (await import('./everything.ts')).withImplied(settings, manifest);
}

/** See {@link import('./captured-file.ts').capturedFileIn}. */
export function capturedFileIn(
  settings: Settings,
  source: SnapshotSource,
  signal: AbortSignal,
): CapturedFile {
  return async (path) => (await import('./captured-file.ts')).capturedFileIn(settings, source, signal)(path);
}

/** Builds the adapters that `settings` ask for. Opens nothing. @throws TarsError when a secret cannot be read */
export async function composeStack(
  settings: Settings,
  overrides: StackOverrides,
  env: Environment = {},
): Promise<Stack> {
  const passwords = new Map<string, string | undefined>();
  for (const [name, component] of Object.entries(settings.components)) {
    passwords.set(name, await componentPassword(component.secrets, overrides.capturedFile));
  }
  const further = await furtherSecrets(settings, env);
  const knownSecrets = [...passwords.values(), ...further].filter((secret) => secret !== undefined);
  const reserved = await placesOfTars(settings, env, overrides);
  const stackContext: StackContext = { settings, overrides, knownSecrets, reserved };
  // Loaded only where needed: most verbs touch no store, and the client of the Engine is large.
  const { composeComponent, servicesOfStores } = await import('./components.ts');
  const stores = servicesOfStores(overrides.beside ?? settings.components);
  const docker =
    settings.docker === undefined
      ? undefined
      : await (await import('./docker.ts')).DockerStack.open(settings.docker, settings, env, overrides);
  const components = await Promise.all(
    Object.entries(settings.components).map(([name, component]) => {
      const password = passwords.get(name);
      return docker === undefined
        ? composeComponent(name, component, stackContext, { password })
        : docker.component(name, component, stackContext, password);
    }),
  );
  return {
    name: settings.stack,
    hostname: settings.host,
    username: userName(),
    components,
    runtime: docker?.runtime ?? composeRuntime(settings, stores),
    guardian: createGuardian(),
    journal: journalOf(settings),
    origin: originOf(settings),
    pauseMaxMs: settings.pause_max_ms,
    provisioner: docker?.provisioner,
  };
}

function composeRuntime({ services }: Pick<Settings, 'services'>, stores: ReadonlySet<string>): Runtime {
  const entries = Object.entries(services);
  return createProcessRuntime({
    services: Object.fromEntries(
      entries.map(([name, service]) => [
        name,
        {
          start: service.start,
          stop: service.stop,
          status: service.status,
          command: service.command,
          pidFile: service.pid_file,
          logFile: service.log_file,
          systemdUnit: service.systemd_unit,
          user: service.user,
          dependsOn: service.depends_on,
          stopTimeoutMs: service.stop_timeout_ms ?? 60_000,
          startTimeoutMs: service.start_timeout_ms,
        },
      ]),
    ),
    seemWriters: Object.fromEntries(entries.flatMap((entry) => seeming(entry, stores))),
    writers: Object.fromEntries(
      entries
        .filter(([, service]) => service.writer === true)
        .map(([name, { pause, resume, pid_file: pidFile, systemd_unit: systemdUnit }]) => [
          name,
          { pause, resume, pidFile, systemdUnit },
        ]),
    ),
  });
}

/** A service that depends on a store, and of which nothing says whether it writes to it. */
function seeming(
  [name, { writer, depends_on: dependsOn }]: [string, ServiceSettings],
  stores: ReadonlySet<string>,
): [string, string][] {
  const needed = dependsOn.filter((dependency) => stores.has(dependency));
  const silent = writer === undefined && !stores.has(name) && needed.length > 0;
  return silent ? [[name, `depends on ${needed.join(', ')}`]] : [];
}

/** Files of the stack's configuration, captured or used, with a secret that every user of the machine can read. */
export async function exposedConfiguration(
  { components, docker }: Settings,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const { exposedConfigFiles } = await import('../components/config/exposed.ts');
  const captured = Object.values(components).flatMap(({ configuration }) => configuration?.files ?? []);
  const used = docker === undefined ? [] : [...docker.compose_files, ...docker.env_files];
  return exposedConfigFiles([...captured, ...used], [], signal);
}

/** See {@link import('./components.ts').placeConflicts}. */
export async function placeConflicts(settings: Settings, env: Environment): Promise<readonly string[]> {
  return (await import('./components.ts')).placeConflicts(settings, env);
}

/** Whether a restore of this stack was cut off. */
export async function hasPendingRestores(settings: Settings): Promise<boolean> {
  const pending = await journalOf(settings).pending();
  const own = { stack: settings.stack, origin: originOf(settings) };
  return pending.some(({ entry, alive }) => isRestoreOf(entry, own) && !alive);
}

const originOf = (settings: Settings): RestoreOrigin => ({
  host: settings.host,
  repository: repositoryMarkOf(settings).read().id,
  settings: settings.settingsPath,
});

/** The record of this stack's restores. */
export const journalOf = ({ state_dir: stateDir }: Settings): RestoreJournal =>
  createFileJournal(join(stateDir, 'restores'));

const runsIn = (stateDir: string): string => join(stateDir, 'runs');

const repositoryMarkOf = ({ state_dir: stateDir, repository }: Settings): RepositoryMark =>
  createRepositoryMark(runsIn(stateDir), repository.path);

const runOwnerOf = (settings: Settings): RunOwner => {
  const { stack, host } = settings;
  return { stack, host, repository: repositoryMarkOf(settings) };
};

/** The record of the runs of the stack on this host, into its repository. */
export const runLogOf = (settings: Settings): RunLog =>
  createRunLog(runsIn(settings.state_dir), runOwnerOf(settings));

/** When the schedule of a stack was last written or installed here, or its repository was made. */
export async function scheduleSetAt(settings: Settings, now: Date): Promise<Date | undefined> {
  const { settingsPath, state_dir: stateDir, stack } = settings;
  const set = await lastChange([settingsPath, scheduleMark(stateDir, stack)], now);
  const { since } = repositoryMarkOf(settings).read();
  if (since === undefined || since > now) return set;
  return set === undefined || set < since ? since : set;
}

/** Notes that the schedule of a stack was installed here. */
export const noteSchedule = ({ state_dir: stateDir, stack }: Settings, at: Date): Promise<void> =>
  markSchedule(scheduleMark(stateDir, stack), at);

const scheduleMark = (stateDir: string, stack: string): string =>
  join(runsIn(stateDir), `${stack}.scheduled`);

/** What excludes runs of the stack on this machine, into its repository, from one another. */
export const stackClaimsOf = (settings: Settings): StackClaims =>
  createStackClaims(runsIn(settings.state_dir), runOwnerOf(settings));

/** What runs the schedule on this machine. */
export function schedulerFor(kind: 'systemd' | 'cron', options: { readonly user: boolean }): Scheduler {
  return kind === 'systemd' ? createSystemdScheduler(options.user) : createCronScheduler();
}

/** The files of the repository that `settings` name, which need no password. Opens nothing. */
export const storageOf = ({ repository }: Pick<Settings, 'repository'>): StorageBackend =>
  createLocalStorage(repository.path);

export { bundleExists, supportTools, type SupportTools } from './support.ts';
export { systemdRuns } from '../runtimes/schedulers/systemd.ts';
export { createTaskRunner } from '../runtimes/task-runner.ts';

export type { FoundProject, ProjectSelector } from '../runtimes/docker/discovery/take-inventory.ts';

/** See {@link import('../runtimes/docker/discovery/take-inventory.ts').takeInventory}. */
export async function takeInventory(
  selector: ProjectSelector,
  env: Environment,
  ctx: OperationContext,
): Promise<StackInventory> {
  const discovery = await import('../runtimes/docker/discovery/take-inventory.ts');
  return discovery.takeInventory(selector, kinds, env, ctx);
}

/** See {@link import('../runtimes/docker/discovery/take-inventory.ts').findProjects}. */
export async function findProjects(directory: string, env: Environment): Promise<readonly FoundProject[]> {
  const discovery = await import('../runtimes/docker/discovery/take-inventory.ts');
  return discovery.findProjects(directory, kinds, env);
}

/** Creates the repository that `settings` name, sealed with `password`. @throws TarsError `repository-exists` */
export async function createStore(path: string, password: string, ctx: OperationContext): Promise<void> {
  await createRepository(createLocalStorage(path), password, ctx);
}

/** Opens the repository that `settings` name. */
export async function openStore(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<SnapshotStore> {
  return (await openStoreAndPassword(settings, env, ctx)).store;
}

/** {@link openStore}, with the password that opened it. */
export async function openStoreAndPassword(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<{ readonly store: SnapshotStore; readonly password: string }> {
  const { password, before, origin } = await repositoryPasswords(settings.repository, env, ctx.signal);
  const open = (text: string): Promise<SnapshotStore> =>
    openSnapshotStore(createLocalStorage(settings.repository.path), text, ctx);
  try {
    const read = password ?? (await readPasswordFile(origin));
    return { store: await open(read), password: read };
  } catch (error) {
    if (before === undefined || (password !== undefined && !isWrongPassword(error))) throw error;
    const store = await open(before).catch((second: unknown) => {
      throw isWrongPassword(second) ? error : second;
    });
    ctx.log.warn(
      `The repository opens only with ${origin} as tars up to 1.0.12 read it, including the characters around the password, and restic does not open it. Run tars key passwd, and keep the new password as it prints`,
    );
    return { store, password: before };
  }
}

const isWrongPassword = (error: unknown): boolean =>
  error instanceof TarsError && error.code === 'wrong-password';

/** Where `backup --output-dir` writes. */
export function archiveDestination(
  outputDir: string,
  compression: ArchiveCompression,
  settings: Settings,
): SnapshotDestination {
  return createArchiveDestination({ outputDir, compression, scratchDir: settings.scratch_dir });
}

/** The portable archives in a directory. */
export function archiveShelf(outputDir: string): SnapshotShelf {
  return createArchiveShelf(outputDir);
}

/** Opens a portable archive, verified. */
export function openArchiveFile(
  file: string,
  scratchDir: string,
  ctx: OperationContext,
): Promise<SnapshotSource> {
  return openArchive(file, { scratchDir }, ctx);
}

/** Verifies a portable archive without unpacking it. */
export function checkArchiveFile(
  file: string,
  scratchDir: string,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  return verifyArchive(file, { scratchDir }, ctx);
}
