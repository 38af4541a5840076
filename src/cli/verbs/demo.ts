import type { Command } from 'commander';
import { exitCodes } from '../session/exit-codes.ts';
import { renderReport } from '../render/demo.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

export function addDemo(program: Command, cli: CliContext): void {
  program
    .command('demo')
    .description('back up, destroy and restore a private stack of real servers, and compare everything')
    .option('--keep', 'keep the private stack and its repository')
    .addHelpText('after', '\nExamples:\n  tars demo\n  tars demo --keep')
    .action((flags: { keep?: boolean }, command: Command) =>
      runVerb(command, cli, (session) => run(session, flags.keep === true)),
    );
}

async function run({ ctx, audience }: Session, keep: boolean): Promise<number> {
  // Loaded only where needed: no other verb uses its clients.
  const { runDemo } = await import('../../demo/run.ts');
  const report = await runDemo({ keep }, ctx);
  audience.result(report, renderReport(report));
  return report.comparisons.every(({ holds }) => holds) ? exitCodes.success : exitCodes.error;
}
