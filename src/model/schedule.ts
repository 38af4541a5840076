import type { CronExpression } from './cron-expression.ts';

/** The scheduled tasks; if several are due, they run in this order. */
export const scheduledTasks = ['backup', 'forget', 'check'] as const;
/** One of {@link scheduledTasks}. */
export type ScheduledTask = (typeof scheduledTasks)[number];

/** How often each task runs; a task that is left out is not scheduled. */
type ScheduleTimes = Readonly<Partial<Record<ScheduledTask, CronExpression>>>;

/** The schedule of a stack: the times of each task. */
export interface Schedule {
  readonly stack: string;
  readonly times: ScheduleTimes;
  /** Every run begins up to so much later, so that not all machines of a network begin at once. */
  readonly delayMinutesMax: number;
}

/** The command line of each task, after `tars --config FILE`. */
export const taskArguments = {
  backup: ['backup'],
  forget: ['forget', '--prune', '--yes'],
  check: ['check', '--read-data'],
} as const satisfies Record<ScheduledTask, readonly string[]>;
