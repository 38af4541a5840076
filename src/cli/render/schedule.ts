import { nextTime } from '../../model/cron-expression.ts';
import type { Schedule } from '../../model/schedule.ts';
import type { StackStatus } from '../../operations/schedule/status.ts';
import type { ScheduleChange, SchedulePlan, Scheduler } from '../../ports/scheduler.ts';
import type { Settings } from '../../settings/load.ts';
import { formatTable } from './columns.ts';
import { formatMoment, formatNext } from './units.ts';

/** What a dry run shows. */
export function renderPlan({ changes, commands }: SchedulePlan): string {
  if (changes.length + commands.length === 0) return 'Nothing would change';
  return [
    ...changes.flatMap(({ action, what, text }) => [
      `Would ${action} ${what}`,
      ...(text === ''
        ? []
        : text
            .trimEnd()
            .split('\n')
            .map((line) => (line === '' ? '' : `  ${line}`))),
    ]),
    ...commands.map((command) => `Would run ${command.join(' ')}`),
  ].join('\n');
}

/** One line for each change that was made. */
export const renderChanges = (changes: readonly ScheduleChange[]): readonly string[] =>
  changes.map(({ action, what }) => `${action === 'remove' ? 'Removed' : 'Wrote'} ${what}`);

/** systemd has a timer wait for its time; a line of the crontab takes the first backup as soon as it looks. */
export function firstBackupNote(
  scheduler: Scheduler['name'],
  { times }: Pick<Schedule, 'times'>,
  { last, next }: Pick<StackStatus, 'last' | 'next'>,
  now: Date,
): readonly string[] {
  if (last.backup !== undefined || next.backup === undefined || times.backup === undefined) return [];
  const first =
    scheduler === 'systemd'
      ? `at its time, ${formatMoment(nextTime(times.backup, now))}`
      : 'within the next hour';
  return [`The first backup runs ${first}. To take one now: tars backup`];
}

interface Installed extends Pick<SchedulePlan, 'state' | 'leftovers'>, Pick<StackStatus, 'next'> {
  readonly scheduler: Scheduler['name'];
}

/** Whether the schedule of tars.yaml is installed, and what runs next. */
export function renderInstalled(
  { scheduler, state, leftovers, next }: Installed,
  { settingsPath, schedule }: Pick<Settings, 'settingsPath' | 'schedule'>,
  now: Date,
): string {
  const said = {
    installed: `Installed with ${scheduler}, as ${settingsPath} has it`,
    differs: `Installed with ${scheduler}, but differs from ${settingsPath}: tars schedule install`,
    absent: `Not installed with ${scheduler}: tars schedule install`,
  }[state];
  const rows = Object.entries(next).map(([task, time]) => [
    task,
    schedule?.[task as keyof typeof next] ?? '',
    formatNext(time, now),
  ]);
  return [said, ...leftoverLines(leftovers), formatTable(['RUN', 'RHYTHM', 'NEXT'], rows)].join('\n');
}

const leftoverLines = (leftovers: readonly string[]): string[] =>
  leftovers.map((old) => `The schedule that ${old} installed for the same tars.yaml is still there`);
