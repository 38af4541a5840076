import type { Command } from 'commander';
import { openStore } from '../../composition/index.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { renderSnapshots } from '../render/snapshots.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

export function addSnapshots(program: Command, cli: CliContext): void {
  program
    .command('snapshots')
    .description('list the snapshots in the repository, oldest first')
    .addHelpText('after', '\nExamples:\n  tars snapshots\n  tars snapshots --json')
    .action((_flags: unknown, command: Command) => runVerb(command, cli, run));
}

async function run({ ctx, audience, env, settings }: Session): Promise<number> {
  await using store = await openStore(await settings(), env, ctx);
  const snapshots = await store.list(ctx);
  audience.result(snapshots, renderSnapshots(snapshots));
  return exitCodes.success;
}
