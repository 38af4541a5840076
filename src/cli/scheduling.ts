import { userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { ConfigurationError } from '../model/errors.ts';
import { isEmptyRules } from '../model/retention.ts';
import { parseCronExpression } from '../model/cron-expression.ts';
import { scheduledTasks, type Schedule } from '../model/schedule.ts';
import type { ScheduledStack } from '../ports/scheduler.ts';
import { loadSettings } from '../composition/settings.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';
import { retentionRules } from '../settings/retention.ts';

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

/**
 * A scheduled run has nothing of the environment this one has.
 * @throws ConfigurationError naming what `tars.yaml` must say itself
 */
export async function requirePortable(settings: Settings, env: Environment): Promise<void> {
  const { settingsPath, repository, docker, schedule, retention } = settings;
  const missing = (what: string, hint: string): never => {
    throw new ConfigurationError(`A scheduled run would not know ${what}`, { hint });
  };
  if (repository.password_file === undefined && repository.password_command === undefined) {
    missing(
      'the password of the repository',
      `Add repository.password_file to ${settingsPath}; TARS_PASSWORD and its like are only set here.`,
    );
  }
  if (schedule?.forget !== undefined && isEmptyRules(retentionRules(retention ?? {}))) {
    missing('which snapshots to keep', `Add retention: to ${settingsPath}, or take forget: out of schedule:`);
  }
  // Variables in tars.yaml that only this environment has are missed here; a state_dir that is written there is not moved.
  const elsewhere = await loadSettings(settingsPath, { XDG_STATE_HOME: '/elsewhere' });
  const isDefaultState = elsewhere.state_dir !== settings.state_dir;
  if (isDefaultState && settings.state_dir !== join(loginHome(), '.local/state/tars')) {
    missing('where runs are recorded', `Add to ${settingsPath}: state_dir: ${settings.state_dir}`);
  }
  const dockerHost = env['DOCKER_HOST'];
  if (docker !== undefined && docker.host === undefined && dockerHost !== undefined) {
    missing('DOCKER_HOST', `Add to ${settingsPath}, below docker: host: ${dockerHost}`);
  }
}

/** The home of the password database, which scheduled runs get; empty for a user who is not in it. */
function loginHome(): string {
  try {
    return userInfo().homedir;
  } catch {
    return '';
  }
}
