import type { Command } from 'commander';
import { withCure } from '../render/diagnoses.ts';
import { renderStatus } from '../render/status.ts';
import { examineLeftovers } from '../wiring/examination.ts';
import { statusReading } from '../wiring/schedule.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

export function addStatus(program: Command, cli: CliContext): void {
  program
    .command('status')
    .description('show the last and next runs, and what failed and why')
    .addHelpText(
      'after',
      `
Reads the record of this machine's runs, not the repository itself.
The exit code is 1 if the last backup or the last check failed, or if the backup
is older than the schedule allows; it is 2 if the backup is partial. If nothing
starts the schedule (no timer, no cron daemon, no tars daemon), the state is
warning, with exit code 0 until a backup is missed. Before the first backup the
state is waiting, with exit code 0, until a time of the schedule is missed; if
none is scheduled, the exit code is 1. It also reports why old snapshots are not
forgotten, and what restores left on the disk, if the stores answer within
5 seconds; neither changes the exit code.

Examples:
  tars status
  tars status --json`,
    )
    .action((_flags: object, command: Command) => runVerb(command, cli, (session) => run(session)));
}

const codes = {
  fine: exitCodes.success,
  waiting: exitCodes.success,
  warning: exitCodes.success,
  partial: exitCodes.partial,
  failing: exitCodes.error,
} as const;

async function run({ ctx, audience, env, settings: load }: Session): Promise<number> {
  const settings = await load();
  const reading = await statusReading(settings, env, ctx);
  const found = await examineLeftovers(settings, env, ctx);
  const leftovers = found.map((each) => ({ found: each.found, hint: each.hint ?? '' }));
  const { status, isStarted: started, daemon } = reading;
  const result = { ...status, warnings: status.warnings.map(withCure), leftovers: leftovers.map(withCure) };
  audience.result({ ...result, started, daemon }, renderStatus(reading, leftovers, audience.columns));
  return codes[status.verdict];
}
