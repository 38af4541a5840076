import { formatMoment } from '../../model/calendar.ts';
import { nextTime, previousTime } from '../../model/cron-expression.ts';
import { scheduledTasks, type Schedule, type ScheduledTask } from '../../model/schedule.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ClaimHolder, RecordedVerb, RunLog, RunRecord, StackClaims } from '../../ports/run-log.ts';
import { dueTime, isOfThePast, isRunOf } from './due-time.ts';
import { notStarted, type NotStarted, type Scheduled } from './scheduled.ts';
import { retentionWarnings, type RetentionWarning } from '../retention/retention-state.ts';

/** A run as status shows it. */
export type RunSummary = Omit<RunRecord, 'id'>;

/** How it stands with one stack, from what its runs recorded on this machine. */
export interface StackStatus {
  readonly stack: string;
  /**
   * `partial` when the last backup was; `failing` when it or the last check failed or was
   * locked out, it is too old or there is none; `warning` when nothing starts the next one;
   * `waiting` while no time of the first one was missed; else `fine`.
   */
  readonly verdict: 'fine' | 'waiting' | 'warning' | 'partial' | 'failing';
  /** Why it is not fine: one sentence each. */
  readonly reasons: readonly string[];
  /** What is in the way of forgetting; no backup is worse for it, so the verdict stays. */
  readonly warnings: readonly RetentionWarning[];
  readonly running: readonly RunSummary[];
  /** The newest run of each that went well; of backups, one that holds at least a part. */
  readonly last: Readonly<Partial<Record<RecordedVerb, RunSummary>>>;
  /** Age of the last backup that went well. */
  readonly ageMs?: number | undefined;
  /** Runs that did not go well since their verb last did, newest first. */
  readonly failures: readonly RunSummary[];
  /** By the cron, before any delay; not after now when it is due. */
  readonly next: Readonly<Partial<Record<ScheduledTask, Date>>>;
  /** The time of the schedule by which the first backup is taken; while it waits for that. */
  readonly firstDue?: Date | undefined;
}

/** A backup may begin or end late by this before it is missed: longer than most take, shorter than a day. */
const graceMs = 2 * 3_600_000;

/**
 * Judges the runs of a stack by its schedule at `now`.
 * @param since when the schedule was set: before, no time of a first backup was missed
 */
export function statusOf(schedule: Schedule, runLog: RunLog, now: Date, since = new Date(0)): StackStatus {
  const records = runLog.runs();
  const all = records.map(({ id: _id, ...run }) => run);
  const runs = all.filter((run) => isOfThePast(run, now));
  const backups = runs.filter((run) => isRunOf('backup', run));
  const lastBackup = backups.findLast(wentWell);
  const lastEnded = lastThatCounts(backups);
  const lastCheck = lastThatCounts(runs.filter(({ verb, end }) => verb === 'check' && isVerdict(end)));
  const first = lastBackup === undefined ? firstBackup(schedule, backups, since, now) : undefined;
  const reasons = [
    ...(first === undefined ? [] : [first.said]),
    ...(first === undefined && missedTime(schedule, backups, now) !== undefined
      ? ['The last backup is older than the schedule allows']
      : []),
    ...(lastEnded === undefined ? [] : complaintOf(lastEnded)),
    ...(lastCheck === undefined ? [] : complaintOf(lastCheck)),
  ];
  const partial = lastEnded?.end?.outcome === 'partial' && reasons.length === 1;
  const waiting = first?.state === 'waiting' && reasons.length === 1;
  return {
    stack: schedule.stack,
    verdict: reasons.length === 0 ? 'fine' : partial ? 'partial' : waiting ? 'waiting' : 'failing',
    reasons,
    warnings: retentionWarnings(runs, now),
    running: all.filter(({ state }) => state === 'running'),
    last: lastOfEach(runs, lastBackup),
    ageMs: lastBackup === undefined ? undefined : now.getTime() - lastBackup.startedAt.getTime(),
    failures: failuresOf(runs),
    next: nextOfEach({ ...schedule, delayMinutesMax: 0 }, records, now),
    firstDue: first?.due,
  };
}

/** How a stack stands at one moment. */
export interface StatusReading {
  readonly now: Date;
  readonly status: StackStatus;
  /** Something starts what is scheduled, or nothing is. */
  readonly isStarted: boolean;
  readonly daemon: ClaimHolder | undefined;
}

/** Where it is read from. */
interface StatusSources {
  readonly schedule: Schedule;
  readonly runLog: RunLog;
  readonly claims: StackClaims;
  /** When the schedule was set. */
  readonly setAt: (now: Date) => Promise<Date | undefined>;
  readonly scheduled: (ctx: OperationContext) => Promise<Scheduled>;
}

/** Reads how a stack stands, and whether anything starts its next run. */
export async function readStatus(
  { schedule, runLog, claims, setAt, scheduled }: StatusSources,
  ctx: OperationContext,
): Promise<StatusReading> {
  const now = ctx.clock.now();
  const judged = statusOf(schedule, runLog, now, await setAt(now));
  const isScheduled = Object.keys(judged.next).length > 0;
  const missing = isScheduled ? notStarted(await scheduled(ctx)) : undefined;
  const status = missing === undefined ? judged : withNothingStarted(judged, missing);
  return { now, status, isStarted: missing === undefined, daemon: await claims.holder('daemon') };
}

/** The status of a stack whose scheduled runs nothing starts: the next time will be missed. */
function withNothingStarted(status: StackStatus, { found, hint }: NotStarted): StackStatus {
  const { verdict, reasons } = status;
  return {
    ...status,
    verdict: verdict === 'fine' || verdict === 'waiting' ? 'warning' : verdict,
    reasons: [...reasons, `${found}. ${hint}`],
  };
}

const wentWell = ({ end }: RunSummary): boolean => end?.outcome === 'ok' || end?.outcome === 'partial';

/** What a check ends with that came to a result, or could not even begin. */
const isVerdict = (end: RunSummary['end']): boolean =>
  end?.outcome === 'ok' || end?.outcome === 'failed' || end?.outcome === 'locked';

/** The last run that ended. One that was locked out does not count when another went in its place. */
function lastThatCounts(runs: readonly RunSummary[]): RunSummary | undefined {
  const wentInPlaceOf = ({ startedAt }: RunSummary): boolean =>
    runs.some(
      (run) => run.state === 'running' || (wentWell(run) && (run.finishedAt ?? startedAt) > startedAt),
    );
  return runs.findLast(
    (run) => run.state !== 'running' && !(run.end?.outcome === 'locked' && wentInPlaceOf(run)),
  );
}

/**
 * The last time of the schedule that is past by more than the grace, if no backup of then or later went well or is under
 * way; one that hangs excuses nothing for ever.
 */
function missedTime(
  { times, delayMinutesMax }: Schedule,
  backups: readonly RunSummary[],
  now: Date,
): Date | undefined {
  if (times.backup === undefined) return undefined;
  const latest = new Date(now.getTime() - graceMs - delayMinutesMax * 60_000);
  const missed = previousTime(times.backup, latest);
  const taken = backups.some((run) => run.startedAt >= missed && (run.state === 'running' || wentWell(run)));
  return taken ? undefined : missed;
}

interface FirstBackup {
  readonly state: 'waiting' | 'missing';
  readonly said: string;
  readonly due?: Date;
}

/** How it stands with the first backup, which is not there yet. */
function firstBackup(
  schedule: Schedule,
  backups: readonly RunSummary[],
  since: Date,
  now: Date,
): FirstBackup {
  const none = 'No backup is recorded here';
  const missed = missedTime(schedule, backups, now);
  if (missed !== undefined && missed >= since) {
    return { state: 'missing', said: `${none}, though one was due at ${formatMoment(missed)}` };
  }
  if (backups.some(({ state }) => state === 'running')) {
    return { state: 'waiting', said: 'The first backup is running' };
  }
  const cron = schedule.times.backup;
  if (cron === undefined) return { state: 'missing', said: `${none}, and none is scheduled` };
  const passed = previousTime(cron, now);
  const due = passed >= since ? passed : nextTime(cron, now);
  return { state: 'waiting', said: `${none} yet: the first one is due at ${formatMoment(due)}`, due };
}

function complaintOf({ state, end, verb }: RunSummary): string[] {
  if (state === 'killed') return [`The last ${verb} was killed`];
  if (end === undefined || end.outcome === 'ok') return [];
  const why = end.error === undefined ? '' : `: ${end.error.message}`;
  const what = {
    partial: 'is partial',
    failed: 'failed',
    locked: 'was locked out',
    interrupted: 'was interrupted',
  };
  return [`The last ${verb} ${what[end.outcome]}${why}`];
}

function lastOfEach(
  runs: readonly RunSummary[],
  backup: RunSummary | undefined,
): Partial<Record<RecordedVerb, RunSummary>> {
  const fine = runs.filter(({ end }) => end?.outcome === 'ok');
  const found = {
    backup,
    forget: fine.findLast((run) => isRunOf('forget', run)),
    // Forgetting may prune as well.
    prune: fine.findLast(
      ({ verb, options }) => verb === 'prune' || (verb === 'forget' && options.includes('prune')),
    ),
    check: fine.findLast(({ verb }) => verb === 'check'),
  };
  return Object.fromEntries(Object.entries(found).filter(([, run]) => run !== undefined));
}

function failuresOf(runs: readonly RunSummary[]): RunSummary[] {
  const since = (verb: RecordedVerb): number =>
    runs.findLastIndex((run) => run.verb === verb && run.end?.outcome === 'ok');
  return runs
    .filter((run, index) => run.state !== 'running' && run.end?.outcome !== 'ok' && index > since(run.verb))
    .reverse();
}

function nextOfEach(
  schedule: Schedule,
  runs: readonly RunRecord[],
  now: Date,
): Partial<Record<ScheduledTask, Date>> {
  const times = scheduledTasks.map((task) => [task, dueTime(task, schedule, runs, now)] as const);
  return Object.fromEntries(times.filter(([, time]) => time !== undefined));
}
