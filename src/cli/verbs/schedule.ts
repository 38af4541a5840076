import { Option, type Command } from 'commander';
import {
  createTaskRunner,
  noteSchedule,
  runLogOf,
  schedulerFor,
  stackClaimsOf,
  systemdRuns,
} from '../../composition/index.ts';
import { ConfigurationError, RepositoryLockedError, toTarsError } from '../../model/errors.ts';
import { runDue } from '../../operations/schedule/run-schedule.ts';
import { statusOf } from '../../operations/schedule/status.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SchedulePlan, Scheduler } from '../../ports/scheduler.ts';
import type { Settings } from '../../settings/load.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { firstBackupNote, renderChanges, renderInstalled, renderPlan } from '../render/schedule.ts';
import {
  commandFor,
  requirePortable,
  requireSchedule,
  scheduledStack,
  scheduleOf,
} from '../wiring/schedule.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

interface SchedulerFlags {
  readonly systemd?: boolean;
  readonly cron?: boolean;
  readonly user?: boolean;
}
interface RunFlags {
  readonly quiet?: boolean;
  readonly delay?: boolean;
}
interface ChangeFlags extends SchedulerFlags {
  readonly dryRun?: boolean;
}

export function addSchedule(program: Command, cli: CliContext): void {
  const schedule = program
    .command('schedule')
    .description('run backup, forget and check at the times under schedule: in tars.yaml');
  const add = (name: string, description: string): Command => schedule.command(name).description(description);
  withScheduler(add('install', 'install the schedule of tars.yaml, or its changes'))
    .option('--dry-run', 'print what would be installed, and change nothing')
    .addHelpText('after', '\nExamples:\n  tars schedule install --dry-run\n  tars schedule install --cron')
    .action((flags: ChangeFlags, command: Command) =>
      runVerb(command, cli, (session) => install(session, flags)),
    );
  withScheduler(add('status', 'show whether the schedule of tars.yaml is installed, and what runs next'))
    .addHelpText(
      'after',
      '\nThe exit code is 1 if the installed schedule differs from tars.yaml.\n\nExample:\n  tars schedule status',
    )
    .action((flags: SchedulerFlags, command: Command) =>
      runVerb(command, cli, (session) => status(session, flags)),
    );
  withScheduler(add('remove', 'remove what install added'))
    .option('--dry-run', 'print what would be removed, and change nothing')
    .addHelpText('after', '\nExample:\n  tars schedule remove')
    .action((flags: ChangeFlags, command: Command) =>
      runVerb(command, cli, (session) => remove(session, flags)),
    );
  add('run', 'run the tasks that are due; the lines in the crontab call this')
    .option('--quiet', 'print nothing unless something fails')
    .option('--delay', 'wait first, for up to randomized_delay_minutes of tars.yaml')
    .addHelpText('after', '\nExample:\n  tars schedule run')
    .action((flags: RunFlags, command: Command) => runVerb(command, cli, (session) => run(session, flags)));
}

function withScheduler(command: Command): Command {
  return command
    .addOption(new Option('--systemd', 'with systemd timers (default where systemd runs)').conflicts('cron'))
    .option('--cron', 'with lines in your crontab (default elsewhere)')
    .addOption(new Option('--user', 'with systemd timers of your own, not the system’s').conflicts('cron'));
}

function schedulerOf({ systemd, cron, user }: SchedulerFlags): Scheduler {
  const kind = systemd === true || user === true || (cron !== true && systemdRuns()) ? 'systemd' : 'cron';
  return schedulerFor(kind, { user: user === true });
}

async function install(session: Session, flags: ChangeFlags): Promise<number> {
  const settings = await session.settings();
  const stack = scheduledStack(settings);
  await requirePortable(settings, session.env);
  const scheduler = schedulerOf(flags);
  const plan = await scheduler.planInstall(stack, session.ctx);
  const done =
    plan.state === 'installed'
      ? 'The schedule is already installed'
      : `Installed the schedule of ${stack.stack}`;
  const now = session.ctx.clock.now();
  const standing = statusOf(scheduleOf(settings), runLogOf(settings), now);
  const notes = [
    ...(flags.user === true ? lingerNotes : []),
    ...firstBackupNote(scheduler.name, stack, standing, now),
  ];
  const code = await carryOut(session, { scheduler, plan, dryRun: flags.dryRun === true, done, notes });
  // Installing it again and again must not put off what was missed.
  if (flags.dryRun !== true && plan.state !== 'installed') await noteInstalled(settings, session.ctx);
  return code;
}

/** For `tars status`, which else takes the times before for missed; that is no reason to fail. */
async function noteInstalled(settings: Settings, { clock, log }: OperationContext): Promise<void> {
  try {
    await noteSchedule(settings, clock.now());
  } catch (error) {
    log.warn(toTarsError(error, 'Cannot record the schedule').message);
  }
}

const lingerNotes = [
  'Timers of a user run only while that user is logged in, unless: loginctl enable-linger',
];

async function remove(session: Session, flags: ChangeFlags): Promise<number> {
  const settings = await session.settings();
  const scheduler = schedulerOf(flags);
  const name = { stack: settings.stack, command: commandFor(settings) };
  const plan = await scheduler.planRemove(name, session.ctx);
  const done =
    plan.state === 'absent' ? 'No schedule is installed' : `Removed the schedule of ${settings.stack}`;
  return carryOut(session, { scheduler, plan, dryRun: flags.dryRun === true, done, notes: [] });
}

interface Undertaking {
  readonly scheduler: Scheduler;
  readonly plan: SchedulePlan;
  readonly dryRun: boolean;
  readonly done: string;
  readonly notes: readonly string[];
}

async function carryOut({ audience, ctx }: Session, undertaking: Undertaking): Promise<number> {
  const { scheduler, plan, dryRun, done, notes } = undertaking;
  const { state, leftovers, changes, commands } = plan;
  const value = { scheduler: scheduler.name, before: state, leftovers, changes, commands, dryRun };
  if (dryRun) {
    audience.result(value, renderPlan(plan));
    return exitCodes.success;
  }
  if (commands.some(([program]) => program === 'systemctl') && !systemdRuns()) {
    throw new ConfigurationError('systemd does not run here', {
      hint: 'Use --cron, or run `tars daemon`, as in a container.',
    });
  }
  await plan.execute(ctx);
  audience.result(value, [...renderChanges(changes), done, ...notes].join('\n'));
  return exitCodes.success;
}

async function status({ ctx, audience, settings: load }: Session, flags: SchedulerFlags): Promise<number> {
  const settings = await load();
  const scheduler = schedulerOf(flags);
  requireSchedule(settings);
  const { state, leftovers } = await scheduler.planInstall(scheduledStack(settings), ctx);
  const now = ctx.clock.now();
  const { next } = statusOf(scheduleOf(settings), runLogOf(settings), now);
  const value = { scheduler: scheduler.name, state, leftovers, next };
  audience.result(value, renderInstalled(value, settings, now));
  return state === 'installed' ? exitCodes.success : exitCodes.error;
}

async function run({ ctx, settings: load }: Session, { quiet = false, delay }: RunFlags): Promise<number> {
  const settings = await load();
  requireSchedule(settings);
  const claim = async (): Promise<Disposable | undefined> => {
    try {
      return await stackClaimsOf(settings).claim('daemon', 'schedule run', ctx.clock.now());
    } catch (error) {
      // Whoever has it runs what is due.
      if (!(error instanceof RepositoryLockedError)) throw error;
      if (!quiet) ctx.log.info('Another process already runs the schedule');
      return undefined;
    }
  };
  const schedule = scheduleOf(settings);
  const silent = (): void => undefined;
  return await runDue(
    {
      claim,
      load: () => Promise.resolve(delay === true ? schedule : { ...schedule, delayMinutesMax: 0 }),
      runLog: runLogOf(settings),
      runTask: createTaskRunner(commandFor(settings), quiet ? 'failures' : 'all'),
    },
    quiet ? { ...ctx, log: { ...ctx.log, info: silent } } : ctx,
  );
}
