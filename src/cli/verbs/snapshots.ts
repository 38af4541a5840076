import type { Command } from 'commander';
import { openStore } from '../../composition/index.ts';
import { shortId } from '../../model/snapshot.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { formatTable } from '../render/columns.ts';
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
  const rows = snapshots.map(({ id, time, stack, hostname, tags, program }) => [
    shortId(id),
    time.toISOString().replace('T', ' ').slice(0, 19),
    stack ?? '-',
    hostname,
    tags.includes('partial') ? 'partial' : 'complete',
    program ?? '',
  ]);
  const human =
    rows.length === 0
      ? 'No snapshots yet. Take one with: tars backup'
      : formatTable(['ID', 'TIME (UTC)', 'STACK', 'HOST', 'OUTCOME', 'WRITTEN BY'], rows);
  audience.result(snapshots, human);
  return exitCodes.success;
}
