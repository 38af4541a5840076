import type { OperationContext } from '../../ports/context.ts';
import type { ClaimHolder } from '../../ports/run-log.ts';
import type { ScheduledStack, Scheduler } from '../../ports/scheduler.ts';
import type { Lack } from './portable.ts';

/** Whether anything on this machine starts what the schedule says. */
export interface Scheduled {
  readonly state: 'installed' | 'differs' | 'absent';
  /** False when it is there, and nothing starts it: no cron daemon runs. */
  readonly runs: boolean;
  /** Such as `cron`. */
  readonly by: string | undefined;
  /** Other names that the stack of this tars.yaml had when its schedule was installed. */
  readonly leftovers: readonly string[];
  /** What such a run would not know, being started without this environment. */
  readonly lacks: Lack | undefined;
}

/** What keeps scheduled runs from being started, and what to do about it. */
export interface NotStarted {
  /** One sentence for a person. */
  readonly found: string;
  /** An imperative sentence. */
  readonly hint: string;
}

/** Why nothing on this machine starts what tars.yaml schedules; undefined when something does. */
export function notStarted({ state, by, runs }: Scheduled): NotStarted | undefined {
  if (state === 'absent') {
    return {
      found: 'Nothing on this machine starts the schedule in tars.yaml',
      hint: 'Run tars schedule install, or keep tars daemon running.',
    };
  }
  if (runs) return undefined;
  return {
    found: `Nothing starts the schedule: no ${by ?? 'scheduler'} runs here`,
    hint: 'Start it now and at every boot (systemctl enable --now cron, or crond), or keep tars daemon running.',
  };
}

/** What may start the runs of a stack. */
interface Starters {
  /** The one that is preferred comes first. */
  readonly schedulers: readonly Scheduler[];
  /** Who holds the claim to the schedule. */
  readonly daemon: ClaimHolder | undefined;
  readonly lacks: Lack | undefined;
}

/** Looks at what starts the runs of `stack`: a daemon, else the first scheduler that has it. */
export async function findScheduled(
  stack: ScheduledStack,
  { schedulers, daemon, lacks }: Starters,
  ctx: OperationContext,
): Promise<Scheduled> {
  const found = await Promise.all(
    schedulers.map(async (scheduler) => {
      try {
        const { state, leftovers } = await scheduler.planInstall(stack, ctx);
        return { state, by: scheduler.name, leftovers, runs: await scheduler.runs() };
      } catch {
        // It is not here, or cannot say this schedule: then it has none of it.
        return { state: 'absent' as const, by: undefined, leftovers: [], runs: false };
      }
    }),
  );
  const leftovers = [...new Set(found.flatMap((each) => each.leftovers))];
  if (daemon !== undefined)
    return { state: 'installed', runs: true, by: `tars ${daemon.verb}`, leftovers, lacks: undefined };
  const best =
    found.find(({ state, runs }) => state === 'installed' && runs) ??
    found.find(({ state }) => state === 'installed') ??
    found.find(({ state }) => state === 'differs');
  return { state: best?.state ?? 'absent', runs: best?.runs ?? false, by: best?.by, leftovers, lacks };
}
