import type { Command } from 'commander';
import { composeStack, openStore, withImplied } from '../../composition/index.ts';
import { ConfigurationError } from '../../model/errors.ts';
import { hasErrors } from '../../model/finding.ts';
import { shortId } from '../../model/snapshot.ts';
import { openWanted } from '../../operations/restore/choose-snapshot.ts';
import { recoverInterrupted } from '../../operations/restore/recover.ts';
import { runningWriters, verifyStack } from '../../operations/verify/verify.ts';
import { ownerOf } from '../../settings/load.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { renderVerify } from '../render/verify.ts';
import { collectNames } from '../flags.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

interface VerifyFlags {
  readonly component?: readonly string[];
  readonly fromHost?: string;
}

export function addVerify(program: Command, cli: CliContext): void {
  program
    .command('verify')
    .description('compare the live stack with a snapshot, store by store')
    .argument('[snapshot]', 'id, a unique prefix of one, or latest', 'latest')
    .option('--component <names>', 'only these components', collectNames)
    .option('--from-host <name>', 'compare with a snapshot of this other host')
    .addHelpText(
      'after',
      '\nChanges since the snapshot are reported too.\nThe exit code is 1 if the data of a store differs, and 0 if there are only\nwarnings, such as a changed file.\n\nExamples:\n  tars verify\n  tars verify 4f3a9c21 --component postgres',
    )
    .action((snapshot: string, flags: VerifyFlags, command: Command) =>
      runVerb(command, cli, (session) => run(session, snapshot, flags)),
    );
}

async function run(
  session: Session,
  reference: string,
  { component: only, fromHost }: VerifyFlags,
): Promise<number> {
  const { ctx, audience, env } = session;
  const settings = await session.settings();
  await using store = await openStore(settings, env, ctx);
  await using source = await openWanted(store, { reference, owner: ownerOf(settings), fromHost }, ctx);
  const whole = await withImplied(settings, await source.manifest(ctx.signal));
  const stack = await composeStack(whole, { includeModels: false }, session.env);
  const unknown = only?.find((name) => !stack.components.some((component) => component.name === name));
  if (unknown !== undefined) {
    throw new ConfigurationError(`There is no component ${unknown}`, {
      hint: `tars.yaml has: ${stack.components.map(({ name }) => name).join(', ')}.`,
    });
  }
  await recoverInterrupted({ ...stack, stack: stack.name }, stack.journal, ctx);
  const { hostname } = source.summary;
  if (hostname !== settings.host && fromHost === undefined)
    ctx.log.warn(`Snapshot ${shortId(source.summary.id)} was taken on ${hostname}; this is ${settings.host}`);
  const components = stack.components.filter(({ name }) => only?.includes(name) ?? true);
  const result = await verifyStack(source, components, ctx);
  for (const finding of result.findings) audience.event({ type: 'finding', finding });
  const differs = hasErrors(result.findings);
  const running = differs ? await runningWriters(stack.runtime, ctx) : [];
  audience.result({ ...result, runningWriters: running }, renderVerify(result, running));
  return differs ? exitCodes.error : exitCodes.success;
}
