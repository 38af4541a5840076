import type { Command } from 'commander';
import { openStore } from '../../composition/index.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

export function addUnlock(program: Command, cli: CliContext): void {
  program
    .command('unlock')
    .description('remove locks that dead processes left in the repository')
    .option('--all', 'remove every lock, even of processes that may still run')
    .addHelpText('after', '\nExamples:\n  tars unlock\n  tars unlock --all')
    .action((flags: { all?: boolean }, command: Command) =>
      runVerb(command, cli, (session) => run(session, flags.all === true)),
    );
}

async function run({ ctx, audience, env, settings }: Session, all: boolean): Promise<number> {
  await using store = await openStore(await settings(), env, ctx);
  const removed = await store.unlock({ all }, ctx);
  audience.result({ removed }, removed === 0 ? 'There was no stale lock.' : `Removed locks: ${removed}`);
  return exitCodes.success;
}
