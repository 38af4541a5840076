import type { Command } from 'commander';
import { openStore } from '../../composition/index.ts';
import {
  defaultMaxUnused,
  parsePruneLimits,
  pruneRepository,
  type PruneLimitTexts,
} from '../../operations/retention/prune.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { renderPrune } from '../render/prune.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

interface PruneFlags extends PruneLimitTexts {
  readonly dryRun?: boolean;
}

export function addPrune(program: Command, cli: CliContext): void {
  program
    .command('prune')
    .description('remove the data that no snapshot needs from the repository')
    .option('--dry-run', 'print what would be removed, and change nothing')
    .option(
      '--max-unused <limit>',
      `how much unused data may stay: 5%, 200M or unlimited (default: ${defaultMaxUnused})`,
    )
    .option('--max-repack-size <size>', 'rewrite at most this much, such as 10G; 0 rewrites nothing')
    .addHelpText(
      'after',
      '\nAn interrupted prune loses nothing; the next one continues.\n\nExamples:\n  tars prune --dry-run\n  tars prune --max-unused 10% --max-repack-size 20G',
    )
    .action((flags: PruneFlags, command: Command) => runVerb(command, cli, (session) => run(session, flags)));
}

async function run({ ctx, audience, env, settings }: Session, flags: PruneFlags): Promise<number> {
  const limits = parsePruneLimits(flags);
  await using store = await openStore(await settings(), env, ctx);
  const outcome = await pruneRepository(store, limits, { dryRun: flags.dryRun === true }, ctx);
  audience.result(outcome, renderPrune(outcome));
  return exitCodes.success;
}
