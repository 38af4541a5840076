import { toTarsError } from '../model/errors.ts';
import { scheduledTasks, type Schedule, type ScheduledTask } from '../model/schedule.ts';
import type { OperationContext } from '../ports/context.ts';
import type { RunEnd, RunLog, RunRecord } from '../ports/run-log.ts';
import { dueTime } from './due-time.ts';

/** How a task's process ended; undefined when a signal killed it. */
export type TaskExit = number | undefined;

export interface ScheduleRunner {
  /** Read before every turn, so that a change of `tars.yaml` needs no restart. */
  readonly load: () => Promise<Schedule>;
  readonly runLog: RunLog;
  /**
   * Runs a task as a process of its own, so that its crash does not end this one. When `signal` aborts it is told to
   * stop, and awaited: it puts things right first.
   */
  readonly runTask: (task: ScheduledTask, signal: AbortSignal) => Promise<TaskExit>;
}

/** Sleeps are no longer than this: the clock may be set, the machine may sleep, `tars.yaml` may change. */
const turnMs = 60_000;

/** Runs every task that is due, one after the other. Returns the first exit code that is not 0. */
export async function runDue(runner: ScheduleRunner, ctx: OperationContext): Promise<number> {
  const state = new ScheduleState(runner, ctx);
  let exitCode = 0;
  for (;;) {
    ctx.signal.throwIfAborted();
    const { task, due } = await state.next();
    if (task === undefined || due > ctx.clock.now()) return exitCode;
    const exit = await state.run(task);
    if (exitCode === 0) exitCode = exit ?? 1;
  }
}

/** Runs the schedule until `ctx.signal` aborts: what was missed at once, then everything at its time, one at a time. */
export async function runSchedule(runner: ScheduleRunner, ctx: OperationContext): Promise<void> {
  const state = new ScheduleState(runner, ctx);
  let said = '';
  while (!ctx.signal.aborted) {
    const { task, due } = await state.next();
    const waitMs = due.getTime() - ctx.clock.now().getTime();
    if (task !== undefined && waitMs <= 0) {
      await state.run(task);
      continue;
    }
    const next = task === undefined ? 'Nothing is scheduled' : `Next: ${task} at ${due.toISOString()}`;
    if (next !== said) ctx.log.info((said = next));
    await ctx.clock.sleep(Math.min(waitMs, turnMs), ctx.signal).catch((error: unknown) => {
      if (!ctx.signal.aborted) throw error;
    });
  }
}

interface NextTask {
  readonly task: ScheduledTask | undefined;
  readonly due: Date;
}
const farAway = new Date(8.64e15);

class ScheduleState {
  readonly #runner: ScheduleRunner;
  readonly #ctx: OperationContext;
  #schedule: Schedule | undefined;
  #complaint = '';
  /** The last run of each task here, for when it could not even record itself. */
  readonly #own = new Map<ScheduledTask, RunRecord>();

  constructor(runner: ScheduleRunner, ctx: OperationContext) {
    this.#runner = runner;
    this.#ctx = ctx;
  }

  async next(): Promise<NextTask> {
    const schedule = await this.#load();
    const recorded = this.#runner.runLog.runs();
    const now = this.#ctx.clock.now();
    const coming = scheduledTasks.flatMap((task): NextTask[] => {
      const due = dueTime(task, schedule, this.#withOwn(task, recorded), now);
      return due === undefined ? [] : [{ task, due }];
    });
    const earliest = (first: NextTask, other: NextTask): NextTask => (other.due < first.due ? other : first);
    return coming.find(({ due }) => due <= now) ?? coming.reduce(earliest, { task: undefined, due: farAway });
  }

  async run(task: ScheduledTask): Promise<TaskExit> {
    const { log, clock, signal } = this.#ctx;
    const startedAt = clock.now();
    log.info(`${task} begins`);
    const exit = await this.#runner.runTask(task, signal).catch((error: unknown) => {
      signal.throwIfAborted();
      log.warn(toTarsError(error, `Cannot start ${task}`).message);
      return undefined;
    });
    const end = exit === undefined ? undefined : { exitCode: exit, outcome: outcomeOf(exit) };
    const how = exit === undefined ? 'was killed' : `ended with exit code ${exit}`;
    log[exit === 0 ? 'info' : 'warn'](`${task} ${how}`);
    const options = task === 'check' ? ['readData'] : [];
    const state = end === undefined ? 'killed' : 'finished';
    this.#own.set(task, { id: '', verb: task, options, pid: 0, startedAt, end, state });
    return exit;
  }

  /** A `tars.yaml` that cannot be read is said once, and the last good one goes on. */
  async #load(): Promise<Schedule> {
    try {
      this.#schedule = await this.#runner.load();
      this.#complaint = '';
    } catch (error) {
      this.#ctx.signal.throwIfAborted();
      if (this.#schedule === undefined) throw error;
      const { message } = toTarsError(error, 'Cannot read the schedule');
      if (message !== this.#complaint) this.#ctx.log.warn(`The schedule stays as it was: ${message}`);
      this.#complaint = message;
    }
    return this.#schedule;
  }

  #withOwn(task: ScheduledTask, recorded: readonly RunRecord[]): readonly RunRecord[] {
    const own = this.#own.get(task);
    if (own === undefined) return recorded;
    const isRecorded = recorded.some(({ verb, startedAt }) => verb === task && startedAt >= own.startedAt);
    return isRecorded ? recorded : [...recorded, own];
  }
}

/** What the exit codes of the command line mean to a schedule. */
function outcomeOf(exit: number): RunEnd['outcome'] {
  const outcomes: Record<number, RunEnd['outcome']> = {
    0: 'ok',
    2: 'partial',
    11: 'locked',
    130: 'interrupted',
  };
  return outcomes[exit] ?? 'failed';
}
