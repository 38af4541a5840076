import { createHash } from 'node:crypto';
import { nextTime, previousTime } from '../../model/cron-expression.ts';
import type { Schedule, ScheduledTask } from '../../model/schedule.ts';
import type { RunRecord } from '../../ports/run-log.ts';

/** A run that did not come to its end is tried again after this. */
const retryMs = 15 * 60_000;
/** Killed or interrupted more often than this for one time of the schedule, it waits for the next. */
const brokenRunsMax = 3;

/** Clocks are put right by less than this in passing. */
const clockStepMs = 3_600_000;

/** False for a run of a day that has not come yet: the clock was wrong then, and it says nothing about any time. */
export function isOfThePast({ startedAt }: Pick<RunRecord, 'startedAt'>, now: Date): boolean {
  return startedAt.getTime() <= now.getTime() + clockStepMs;
}

/** Options and arguments that make a run something else than what the schedule asks for. */
const deviations: Readonly<Record<'backup' | 'forget', readonly string[]>> = {
  backup: ['only', 'skip', 'skipPostgres', 'skipChromadb', 'skipRedis', 'outputDir'],
  forget: [
    ...['snapshots', 'stack', 'host', 'outputDir', 'keepLast', 'keepHourly', 'keepDaily'],
    ...['keepWeekly', 'keepMonthly', 'keepYearly', 'keepWithin', 'keepTag'],
  ],
};

/** Whether a run, by hand or not, was what the schedule means by `task`. */
export function isRunOf(
  task: ScheduledTask,
  { verb, options }: Pick<RunRecord, 'verb' | 'options'>,
): boolean {
  if (verb !== task) return false;
  if (task === 'check') return options.includes('readData');
  return !options.some((option) => deviations[task].includes(option));
}

/**
 * When `task` is to run next; not after `now` when it is due. Of times that were missed only the last one counts. A
 * run that failed counts as one, and the next time is the next chance; one that was locked out, interrupted or killed
 * is tried again. The first backup is due at once; other tasks wait for their time once anything was recorded.
 * Undefined without a cron.
 */
export function dueTime(
  task: ScheduledTask,
  schedule: Schedule,
  recorded: readonly RunRecord[],
  now: Date,
): Date | undefined {
  const cron = schedule.times[task];
  if (cron === undefined) return undefined;
  const missed = previousTime(cron, now);
  const runs = recorded.filter((run) => isOfThePast(run, now));
  const own = runs.filter((run) => isRunOf(task, run));
  const attempts = own.filter(({ startedAt }) => startedAt >= missed);
  const known = task === 'backup' ? own : runs;
  if (known.length === 0 && task === 'backup') return missed;
  const begun = known.some(({ startedAt }) => startedAt < missed) || attempts.length > 0;
  const broken = attempts.filter(isBroken).length;
  if (!begun || attempts.some(isDone) || broken >= brokenRunsMax) {
    return delayed(task, nextTime(cron, now), schedule);
  }
  const last = attempts.at(-1);
  const due = delayed(task, missed, schedule);
  return last === undefined ? due : new Date(Math.max(due.getTime(), last.startedAt.getTime() + retryMs));
}

const isBroken = ({ state, end }: RunRecord): boolean => state === 'killed' || end?.outcome === 'interrupted';
const isDone = (run: RunRecord): boolean => !isBroken(run) && run.end?.outcome !== 'locked';

/** The same delay for the same time, so that a daemon that starts again neither forgets it nor begins twice. */
function delayed(task: ScheduledTask, time: Date, { stack, delayMinutesMax }: Schedule): Date {
  const digest = createHash('sha256').update(`${stack}\0${task}\0${time.toISOString()}`).digest();
  const share = digest.readUInt32BE(0) / 2 ** 32;
  return new Date(time.getTime() + Math.floor(share * delayMinutesMax * 60) * 1000);
}
