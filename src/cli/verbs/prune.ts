import type { Command } from 'commander';
import { openStore } from '../../composition/index.ts';
import { counted } from '../../model/plural.ts';
import {
  defaultMaxUnused,
  parsePruneLimits,
  pruneRepository,
  type PruneLimitTexts,
  type PruneOutcome,
} from '../../operations/retention/prune.ts';
import { exitCodes } from '../exit-codes.ts';
import { formatBytes } from '../render/units.ts';
import { runVerb, type Session, type CliContext } from '../session.ts';

interface PruneFlags extends PruneLimitTexts {
  readonly dryRun?: boolean;
}

export function addPrune(program: Command, cli: CliContext): void {
  program
    .command('prune')
    .description('remove what no snapshot needs from the repository')
    .option('--dry-run', 'show what would be removed, and change nothing')
    .option(
      '--max-unused <limit>',
      `unused data that may stay: 5%, 200M or unlimited (default: ${defaultMaxUnused})`,
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
  audience.result(outcome, pruneLine(outcome));
  return exitCodes.success;
}

/** What a prune did, or would do, in a line or two. */
export function pruneLine({ plan, done }: PruneOutcome): string {
  const { packs, repackBytes, totalBytes, remainingUnusedBytes } = plan;
  const freedBytes = done?.freedBytes ?? plan.freedBytes;
  const goneCount = packs.remove + packs.unindexed;
  const left =
    remainingUnusedBytes === 0
      ? 'no unused data remains'
      : `${formatBytes(remainingUnusedBytes)} of unused data remain`;
  if (goneCount + packs.repack === 0 && freedBytes <= 0)
    return `Nothing to remove: ${formatBytes(totalBytes)} in all, ${left}`;
  const rewritten =
    packs.repack === 0 ? '' : `, ${counted(packs.repack, 'pack')} rewritten (${formatBytes(repackBytes)})`;
  return [
    `${done === undefined ? 'Would free' : 'Freed'} ${formatBytes(Math.max(0, freedBytes))} of ${formatBytes(totalBytes)}; ${left}`,
    `${counted(goneCount, 'pack')} removed${rewritten}`,
  ].join('\n');
}
