import type { Command } from 'commander';
import { createTaskRunner, runLogOf, stackClaimsOf } from '../../composition/index.ts';
import { runSchedule } from '../../operations/schedule/run-schedule.ts';
import { loadSettings } from '../../composition/settings.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { commandFor, requireSchedule } from '../wiring/schedule.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

export function addDaemon(program: Command, cli: CliContext): void {
  program
    .command('daemon')
    .description('run the schedule of tars.yaml in the foreground, as in a container')
    .addHelpText(
      'after',
      `
Runs that were missed while it did not run are made up for at once, and the
first backup starts at once. tars status shows failed runs; the next run starts
at its time. A change of tars.yaml takes effect within a minute. SIGTERM ends
the daemon after the current run has cleaned up.

Example:
  tars --config /etc/tars/tars.yaml daemon`,
    )
    .action((_flags: object, command: Command) => runVerb(command, cli, (session) => run(session)));
}

async function run({ ctx, env, settings: load }: Session): Promise<number> {
  const settings = await load();
  requireSchedule(settings);
  using _claim = await stackClaimsOf(settings).claim('daemon', 'daemon', ctx.clock.now());
  // Sent when a terminal closes, and by restic to processes that may hold a lock; here it means nothing.
  const ignore = (): void => undefined;
  process.on('SIGHUP', ignore);
  try {
    await runSchedule(
      {
        load: async () => requireSchedule(await loadSettings(settings.settingsPath, env)),
        runLog: runLogOf(settings),
        runTask: createTaskRunner(commandFor(settings), 'all'),
      },
      ctx,
    );
  } finally {
    process.off('SIGHUP', ignore);
  }
  ctx.log.info('Stopped');
  return exitCodes.success;
}
