import type { Schedule } from '../model/schedule.ts';
import type { OperationContext } from './context.ts';

/** A schedule and how to run `tars` for it. */
export interface ScheduledStack extends Schedule {
  /** `node`, the entry point and `--config FILE`, all absolute. */
  readonly command: readonly string[];
  /** Where runs write, besides what the Engine of Docker and the stores do themselves. */
  readonly writablePaths: readonly string[];
  /** All paths the settings name. */
  readonly namedPaths: readonly string[];
}

/** What is installed for a stack is known by its name, and by the `--config FILE` at the end of its command. */
export type ScheduledName = Pick<ScheduledStack, 'stack' | 'command'>;

/** One thing that installing or removing changes. */
export interface ScheduleChange {
  readonly action: 'create' | 'replace' | 'remove';
  /** A file, or `lines in your crontab`. */
  readonly what: string;
  /** What will stand there. */
  readonly text: string;
}

/** The changes to make; empty when nothing has to change. Usable once. */
export interface SchedulePlan {
  /** How it is before: `differs` when something of it is missing, changed or switched off. */
  readonly state: 'installed' | 'differs' | 'absent';
  /** Stacks of other names with the same `tars.yaml`, from before it was renamed; what they have is removed. */
  readonly leftovers: readonly string[];
  readonly changes: readonly ScheduleChange[];
  /** Run after the changes. */
  readonly commands: readonly (readonly string[])[];
  /** @throws TarsError when a part could not be done; running the verb again completes it */
  execute(ctx: OperationContext): Promise<void>;
}

/** What starts processes at set times on this machine. */
export interface Scheduler {
  readonly name: 'systemd' | 'cron';
  /** False when nothing on this machine would start what is installed, such as without a cron daemon. */
  runs(): Promise<boolean>;
  /**
   * Never mutates. Installing what is installed changes nothing.
   * @throws ConfigurationError when a cron cannot be said, or what is not ours stands in the way
   */
  planInstall(stack: ScheduledStack, ctx: OperationContext): Promise<SchedulePlan>;
  /** Of exactly what was installed for that `tars.yaml`. Never mutates. */
  planRemove(stack: ScheduledName, ctx: OperationContext): Promise<SchedulePlan>;
}
