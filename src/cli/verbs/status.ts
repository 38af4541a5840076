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
    .description('show the last and next runs, what failed and why')
    .addHelpText(
      'after',
      `
Reads what runs on this machine recorded for this repository, not what is in it.
Exit code 1 when the last backup or the last check failed, or the backup is
older than the schedule allows; 2 when it is partial. Where nothing starts what
is scheduled (no timer, no cron daemon, no tars daemon), the state is warning,
with exit code 0 until a backup is missed. A stack that has no backup
yet is waiting, with exit code 0, until a time of the schedule is missed; 1 when
none is scheduled. What holds old snapshots back from being forgotten is said,
with its hint, and changes no exit code; so is what restores left that nobody
has discarded, as far as the stores say so within 5 seconds.

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
