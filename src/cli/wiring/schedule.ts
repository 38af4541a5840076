import { userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import {
  runLogOf,
  schedulerFor,
  scheduleSetAt,
  stackClaimsOf,
  systemdRuns,
} from '../../composition/index.ts';
import { ConfigurationError, toTarsError } from '../../model/errors.ts';
import { isEmptyRules } from '../../model/retention.ts';
import { parseCronExpression } from '../../model/cron-expression.ts';
import { scheduledTasks, type Schedule } from '../../model/schedule.ts';
import { lackOfScheduledRun, type Lack } from '../../operations/schedule/portable.ts';
import { findScheduled, type Scheduled } from '../../operations/schedule/scheduled.ts';
import { readStatus, type StatusReading } from '../../operations/schedule/status.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ScheduledStack } from '../../ports/scheduler.ts';
import { loadSettings } from '../../composition/settings.ts';
import type { Settings } from '../../settings/load.ts';
import type { Environment } from '../../model/environment.ts';
import { retentionRules } from '../../settings/retention.ts';

/** What `tars.yaml` says about when; its times were checked when it was read. */
export function scheduleOf({ stack, schedule }: Settings): Schedule {
  const times = scheduledTasks.flatMap((task) => {
    const expression = schedule?.[task];
    return expression === undefined ? [] : [[task, parseCronExpression(expression)] as const];
  });
  return {
    stack,
    times: Object.fromEntries(times),
    delayMinutesMax: schedule?.randomized_delay_minutes ?? 0,
  };
}

/** @throws ConfigurationError when `tars.yaml` schedules nothing */
export function requireSchedule(settings: Settings): Schedule {
  const schedule = scheduleOf(settings);
  if (Object.keys(schedule.times).length > 0) return schedule;
  throw new ConfigurationError(`${settings.settingsPath} schedules nothing`, {
    hint: 'Add to it, for example:\n          schedule:\n            backup: 30 2 * * *\n            forget: 0 4 * * sun\n            check: 0 5 1 * *',
  });
}

/** How this very `tars` is run again with the same settings. */
export function commandFor(settings: Settings): readonly string[] {
  return [process.execPath, resolve(process.argv[1] ?? ''), '--config', resolve(settings.settingsPath)];
}

/** The schedule of a stack with all a scheduler must know of it. */
export function scheduledStack(settings: Settings): ScheduledStack {
  const command = commandFor(settings);
  const stores = Object.values(settings.components).flatMap(({ places }) =>
    places.paths.map(({ path, isFile }) => (isFile ? dirname(path) : path)),
  );
  const written = Object.values(settings.components).map((component) => component.settings);
  const { repository, state_dir: stateDir, scratch_dir: scratchDir } = settings;
  return {
    ...requireSchedule(settings),
    command,
    writablePaths: [...new Set([repository.path, stateDir, scratchDir, ...stores])],
    namedPaths: [...command, ...pathsIn({ ...settings, components: written })],
  };
}

function pathsIn(value: unknown): string[] {
  if (typeof value === 'string') return value.startsWith('/') ? [value] : [];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(pathsIn) : [];
}

/** What runs that a scheduler starts would be without, here where tars.yaml is known with the environment. */
async function lackOf(settings: Settings, env: Environment): Promise<Lack | undefined> {
  const { settingsPath, repository, docker, schedule, retention, state_dir: stateDir } = settings;
  // Variables in tars.yaml that only this environment has are missed here; a state_dir that is written there is not moved.
  const elsewhere = await loadSettings(settingsPath, { XDG_STATE_HOME: '/elsewhere' });
  const isDefaultState = elsewhere.state_dir !== stateDir;
  const isElsewhere = isDefaultState && stateDir !== join(loginHome(), '.local/state/tars');
  return lackOfScheduledRun({
    settingsPath,
    namesPassword: repository.password_file !== undefined || repository.password_command !== undefined,
    forgets: schedule?.forget !== undefined,
    keeps: !isEmptyRules(retentionRules(retention ?? {})),
    stateDirHere: isElsewhere ? stateDir : undefined,
    engineHere: docker === undefined || docker.host !== undefined ? undefined : env['DOCKER_HOST'],
  });
}

/** @throws ConfigurationError naming what `tars.yaml` must say itself */
export async function requirePortable(settings: Settings, env: Environment): Promise<void> {
  const lack = await lackOf(settings, env);
  if (lack !== undefined) throw new ConfigurationError(lack.message, { hint: lack.hint });
}

/** By whichever of systemd, cron and a daemon has the schedule of `settings`. */
export async function scheduledBy(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<Scheduled> {
  const lacks = await lackOf(settings, env).catch((cause: unknown) =>
    toTarsError(cause, 'A scheduled run may fail'),
  );
  const systemd = systemdRuns()
    ? [schedulerFor('systemd', { user: false }), schedulerFor('systemd', { user: true })]
    : [];
  const schedulers = [...systemd, schedulerFor('cron', { user: false })];
  const daemon = await stackClaimsOf(settings).holder('daemon');
  return findScheduled(scheduledStack(settings), { schedulers, daemon, lacks }, ctx);
}

/** Reads what `tars status` shows. */
export const statusReading = (
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<StatusReading> =>
  readStatus(
    {
      schedule: scheduleOf(settings),
      runLog: runLogOf(settings),
      claims: stackClaimsOf(settings),
      setAt: (now) => scheduleSetAt(settings, now),
      scheduled: (each) => scheduledBy(settings, env, each),
    },
    ctx,
  );

/** The home of the password database, which scheduled runs get; empty for a user who is not in it. */
function loginHome(): string {
  try {
    return userInfo().homedir;
  } catch {
    return '';
  }
}
