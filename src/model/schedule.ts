import type { CronExpression } from './cron-expression.ts';

/** What runs by itself; of several that are due, in this order. */
export const scheduledTasks = ['backup', 'forget', 'check'] as const;
/** One of {@link scheduledTasks}. */
export type ScheduledTask = (typeof scheduledTasks)[number];

/** How often each task runs; one that is left out never does by itself. */
type ScheduleTimes = Readonly<Partial<Record<ScheduledTask, CronExpression>>>;

/** When which task of a stack runs by itself. */
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
