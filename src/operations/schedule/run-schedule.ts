import { throwIfAborted } from '../../model/abort.ts';
import { toTarsError } from '../../model/errors.ts';
import { scheduledTasks, type Schedule, type ScheduledTask } from '../../model/schedule.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RunEnd, RunLog, RunRecord } from '../../ports/run-log.ts';
import { dueTime } from './due-time.ts';

/** How a task's process ended; undefined when a signal killed it. */
type TaskExit = number | undefined;

/** What the tasks of a schedule are run with. */
interface ScheduleRunner {
  /** Read before every turn, so that a change of `tars.yaml` needs no restart. */
  readonly load: () => Promise<Schedule>;
  readonly runLog: RunLog;
  /**
   * Runs a task as a process of its own, so that its crash does not end this one. When `signal` aborts it is told to
   * stop, and awaited: it puts things right first.
   */
  readonly runTask: (task: ScheduledTask, signal: AbortSignal) => Promise<TaskExit>;
}

/** A runner that shares its schedule with others, of whom one at a time runs what is due. */
interface DueRunner extends ScheduleRunner {
  /** Keeps out whoever else runs this schedule; undefined while another does, who runs then what is due. */
  readonly claim: () => Promise<Disposable | undefined>;
}

/** Sleeps are no longer than this: the clock may be set, the machine may sleep, `tars.yaml` may change. */
const turnMs = 60_000;

/**
 * Runs every task whose time has come, one after the other, each once its delay is over. Nothing is claimed or recorded
 * before. Returns the first exit code that is not 0.
 */
export async function runDue(runner: DueRunner, ctx: OperationContext): Promise<number> {
  const state = new ScheduleState(runner, ctx);
  let exitCode = 0;
  while (await state.awaitDue()) {
    using claim = await runner.claim();
    if (claim === undefined) return exitCode;
    for (;;) {
      throwIfAborted(ctx.signal);
      const task = dueNow(await state.next(), ctx);
      if (task === undefined) break;
      const exit = await state.run(task);
      if (exitCode === 0) exitCode = exit ?? 1;
    }
  }
  return exitCode;
}

/** Runs the schedule until `ctx.signal` aborts: what was missed at once, then everything at its time, one at a time. */
export async function runSchedule(runner: ScheduleRunner, ctx: OperationContext): Promise<void> {
  // A record that cannot be read ends no daemon: it goes by what it knows and has seen itself.
  const state = new ScheduleState(runner, ctx, []);
  let said = '';
  while (!ctx.signal.aborted) {
    const next = await state.next();
    const current = dueNow(next, ctx);
    if (current !== undefined) {
      await state.run(current);
      continue;
    }
    const { task, due } = next;
    const text = task === undefined ? 'Nothing is scheduled' : `Next: ${task} at ${due.toISOString()}`;
    if (text !== said) ctx.log.info((said = text));
    const waitMs = due.getTime() - ctx.clock.now().getTime();
    await ctx.clock.sleep(Math.min(waitMs, turnMs), ctx.signal).catch((error: unknown) => {
      if (!ctx.signal.aborted) throw error;
    });
  }
}

interface ComingTask {
  readonly task: ScheduledTask;
  /** Its time by the cron. */
  readonly time: Date;
  /** When its delay is over. */
  readonly due: Date;
}
type NextTask = ComingTask | { readonly task: undefined; readonly due: Date };
const nothingNext: NextTask = { task: undefined, due: new Date(8.64e15) };

/** The task, if it is to run now. */
const dueNow = ({ task, due }: NextTask, { clock }: OperationContext): ScheduledTask | undefined =>
  due <= clock.now() ? task : undefined;

class ScheduleState {
  readonly #runner: ScheduleRunner;
  readonly #ctx: OperationContext;
  #schedule: Schedule | undefined;
  #known: readonly RunRecord[] | undefined;
  #complaint = '';
  #recordComplaint = '';
  /** The last run of each task here, for when it could not even record itself. */
  readonly #own = new Map<ScheduledTask, RunRecord>();

  /** @param known what is recorded, should the record not be readable; undefined when that is an error then */
  constructor(runner: ScheduleRunner, ctx: OperationContext, known?: readonly RunRecord[]) {
    this.#runner = runner;
    this.#ctx = ctx;
    this.#known = known;
  }

  async next(): Promise<NextTask> {
    const coming = await this.#coming();
    const now = this.#ctx.clock.now();
    return coming.find(({ due }) => due <= now) ?? coming.reduce(earlier, nothingNext);
  }

  /** Waits until a task whose time has come is past its delay. False when there is none. */
  async awaitDue(): Promise<boolean> {
    const { clock, signal } = this.#ctx;
    for (;;) {
      throwIfAborted(signal);
      const now = clock.now();
      const delayed = (await this.#coming()).filter(({ time }) => time <= now);
      const next = delayed.reduce(earlier, nothingNext);
      if (next.task === undefined || next.due <= now) return next.task !== undefined;
      await clock.sleep(Math.min(next.due.getTime() - now.getTime(), turnMs), signal);
    }
  }

  async #coming(): Promise<readonly ComingTask[]> {
    const schedule = await this.#load();
    const recorded = this.#recorded();
    const now = this.#ctx.clock.now();
    return scheduledTasks.flatMap((task): ComingTask[] => {
      const runs = this.#withOwn(task, recorded);
      const due = dueTime(task, schedule, runs, now);
      const time = dueTime(task, { ...schedule, delayMinutesMax: 0 }, runs, now);
      return due === undefined || time === undefined ? [] : [{ task, due, time }];
    });
  }

  async run(task: ScheduledTask): Promise<TaskExit> {
    const { log, clock, signal } = this.#ctx;
    const startedAt = clock.now();
    log.info(`${task} begins`);
    const exit = await this.#runner.runTask(task, signal).catch((error: unknown) => {
      throwIfAborted(signal);
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
      throwIfAborted(this.#ctx.signal);
      if (this.#schedule === undefined) throw error;
      const { message } = toTarsError(error, 'Cannot read the schedule');
      if (message !== this.#complaint) this.#ctx.log.warn(`The schedule stays unchanged: ${message}`);
      this.#complaint = message;
    }
    return this.#schedule;
  }

  /** What cannot be read is said once, and what was read last goes on. */
  #recorded(): readonly RunRecord[] {
    try {
      this.#known = this.#runner.runLog.runs();
      this.#recordComplaint = '';
    } catch (error) {
      if (this.#known === undefined) throw error;
      const { message } = toTarsError(error, 'Cannot read the record of runs');
      if (message !== this.#recordComplaint)
        this.#ctx.log.warn(`${message}; the schedule continues with the runs that it knows`);
      this.#recordComplaint = message;
    }
    return this.#known;
  }

  #withOwn(task: ScheduledTask, recorded: readonly RunRecord[]): readonly RunRecord[] {
    const own = this.#own.get(task);
    if (own === undefined) return recorded;
    const isRecorded = recorded.some(({ verb, startedAt }) => verb === task && startedAt >= own.startedAt);
    return isRecorded ? recorded : [...recorded, own];
  }
}

const earlier = (first: NextTask, other: NextTask): NextTask => (other.due < first.due ? other : first);

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
