import type { Command } from 'commander';
import { databasesIn, openStore } from '../../composition/index.ts';
import { openWanted } from '../../operations/restore/choose-snapshot.ts';
import { ownerOf } from '../../settings/load.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { renderShow } from '../render/show.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

export function addShow(program: Command, cli: CliContext): void {
  program
    .command('show')
    .description('show the content of a snapshot')
    .argument('[snapshot]', 'id, a unique prefix of one, or latest', 'latest')
    .option('--from-host <name>', 'use a snapshot of this other host')
    .addHelpText('after', '\nExamples:\n  tars show\n  tars show 4f3a9c21 --json')
    .action((snapshot: string, flags: { fromHost?: string }, command: Command) =>
      runVerb(command, cli, (session) => run(session, snapshot, flags.fromHost)),
    );
}

async function run(
  { ctx, audience, env, settings: load }: Session,
  reference: string,
  fromHost: string | undefined,
): Promise<number> {
  const settings = await load();
  await using store = await openStore(settings, env, ctx);
  await using source = await openWanted(store, { reference, owner: ownerOf(settings), fromHost }, ctx);
  const manifest = await source.manifest(ctx.signal);
  audience.result({ summary: source.summary, manifest }, renderShow(source.summary, manifest, databasesIn));
  return exitCodes.success;
}
