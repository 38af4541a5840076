import type { Command } from 'commander';
import { archiveShelf, countAmounts, openStore } from '../../composition/index.ts';
import { ConfigurationError, TarsError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import { shortId } from '../../model/snapshot.ts';
import {
  executeForget,
  lastOnesRemovedBy,
  planForget,
  planForgetNamed,
  removedBy,
  type ForgetPlan,
  type StackForgetPlan,
} from '../../operations/retention/forget.ts';
import { outcomeOfNamed, outcomeOfPlan, warnOfPlan } from '../../operations/retention/note.ts';
import { previewPruneAfter, pruneAfterForget, type PruneOutcome } from '../../operations/retention/prune.ts';
import type { SnapshotShelf } from '../../ports/snapshot-shelf.ts';
import { ownerOf, type Settings } from '../../settings/load.ts';
import { retentionRules } from '../../settings/retention.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { directoryFromHere } from '../init/choices.ts';
import { addKeepOptions, forgetAnyway, rulesOfFlags, type KeepFlags } from '../flags.ts';
import { describedStack, lastRetentionOf } from '../wiring/retention.ts';
import { renderForget } from '../render/forget.ts';
import { renderPrune } from '../render/prune.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

interface ForgetFlags extends KeepFlags {
  readonly stack?: string;
  readonly allStacks?: boolean;
  readonly host?: string;
  readonly allHosts?: boolean;
  readonly outputDir?: string;
  readonly allowLast?: boolean;
  readonly allowShrunk?: boolean;
  readonly prune?: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

export function addForget(program: Command, cli: CliContext): void {
  const command = program
    .command('forget')
    .description('remove the snapshots that no retention rule keeps, or the given ones')
    .argument('[snapshots...]', 'ids or unique prefixes, instead of rules');
  addKeepOptions(command, { hidden: false })
    .option('--stack <name>', 'only snapshots of this stack (default: the stack of tars.yaml)')
    .option('--all-stacks', 'snapshots of every stack in the repository, each stack by itself')
    .option(
      '--host <name>',
      'only snapshots taken on this host (default: the host of tars.yaml, or this machine)',
    )
    .option('--all-hosts', 'snapshots taken on any host, each host by itself')
    .option('--output-dir <dir>', 'portable archives in this directory instead')
    .option('--allow-last', 'also allow removing the newest complete snapshot')
    .option('--allow-shrunk', 'forget even if a store shrank by half, or its last good copy is removed')
    .option('--prune', 'then remove the data that no snapshot needs (see tars prune)')
    .option('--dry-run', 'print what would be removed and why, and change nothing')
    .option('-y, --yes', 'do not ask')
    .addHelpText(
      'after',
      '\nThe rules under retention: in tars.yaml apply, unless you give rules here, which\nreplace them all. The newest complete snapshot of a host stays. Partial\nsnapshots are not counted.\n\nExamples:\n  tars forget --dry-run\n  tars forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --yes --prune\n  tars forget 4f3a9c21\n  tars forget --output-dir /mnt/nas --keep-last 3',
    )
    .action((references: readonly string[], flags: ForgetFlags, command: Command) =>
      runVerb(command, cli, (session) => run(session, references, flags)),
    );
}

async function run(session: Session, references: readonly string[], flags: ForgetFlags): Promise<number> {
  const { ctx, audience, env } = session;
  refuseContradictions(references, flags);
  const settings = await session.settings();
  if (flags.outputDir !== undefined) {
    const shelf = archiveShelf(directoryFromHere(flags.outputDir, env));
    const forgotten = await forget(session, shelf, { references, flags, settings });
    audience.result(forgotten.value, forgotten.human);
    return exitCodes.success;
  }
  await using store = await openStore(settings, env, ctx);
  const forgotten = await forget(session, store, { references, flags, settings });
  const isDry = flags.dryRun === true;
  const prune = (): Promise<PruneOutcome | undefined> =>
    isDry ? previewPruneAfter(forgotten.going, store, ctx) : pruneAfterForget(forgotten.removed, store, ctx);
  const pruned = flags.prune === true ? await prune() : undefined;
  audience.result({ ...forgotten.value, prune: pruned }, [forgotten.human, ...pruneLines(pruned)].join('\n'));
  return exitCodes.success;
}

const pruneLines = (pruned: PruneOutcome | undefined): string[] =>
  pruned === undefined ? [] : [renderPrune(pruned)];

function refuseContradictions(references: readonly string[], flags: ForgetFlags): void {
  const refuse = (what: string, hint: string): never => {
    throw new ConfigurationError(what, { hint });
  };
  if (references.length > 0 && rulesOfFlags(flags) !== undefined) {
    refuse('Snapshot ids and rules cannot be combined', 'Omit the --keep flags or the ids.');
  }
  const { stack, allStacks = false, host, allHosts = false } = flags;
  if (references.length > 0 && (stack !== undefined || allStacks || host !== undefined || allHosts)) {
    refuse(
      'Snapshot ids cannot be combined with a choice of stack or host',
      'Omit --stack, --all-stacks, --host and --all-hosts.',
    );
  }
  if (host !== undefined && allHosts) {
    refuse('--host and --all-hosts cannot be combined', 'Omit --host or --all-hosts.');
  }
  if (stack !== undefined && allStacks) {
    refuse('--stack and --all-stacks cannot be combined', 'Omit --stack or --all-stacks.');
  }
  if (flags.outputDir !== undefined && flags.prune === true) {
    refuse('--prune is for the repository: archives share no data', 'Leave --prune out.');
  }
}

interface ForgetRequest {
  readonly references: readonly string[];
  readonly flags: ForgetFlags;
  readonly settings: Settings;
}

interface Forgotten {
  readonly value: object;
  readonly human: string;
  /** The snapshots that go by the plan. */
  readonly going: readonly string[];
  /** How many of them are gone. */
  readonly removed: number;
}

/** Plans, shows, asks and removes. */
async function forget(
  session: Session,
  shelf: SnapshotShelf,
  { references, flags, settings }: ForgetRequest,
): Promise<Forgotten> {
  const { ctx } = session;
  const allowances = { allowLast: flags.allowLast === true, allowShrunk: flags.allowShrunk === true };
  const configured = flags.outputDir === undefined ? settings.retention : settings.retention?.archives;
  const rules = retentionRules(rulesOfFlags(flags) ?? configured ?? {});
  const stack = flags.allStacks === true ? undefined : (flags.stack ?? settings.stack);
  const hostname = flags.allHosts === true ? undefined : (flags.host ?? settings.host);
  const isNamed = references.length > 0;
  const described = describedStack(settings);
  const plan = isNamed
    ? await planForgetNamed(shelf, references, allowances, ctx)
    : await planForget(shelf, { ...allowances, rules, stack, hostname, described, count: countAmounts }, ctx);
  const command = forgetAnyway({ outputDir: flags.outputDir, rules: rulesOfFlags(flags) });
  if (!isNamed) warnOfPlan(plan, ownerOf(settings), command, ctx);
  const isDry = flags.dryRun === true;
  const removed = isDry ? 0 : removedBy(plan).length;
  if (removed > 0) {
    await confirm(session, plan, flags);
    await executeForget(shelf, plan, ctx);
  }
  const own = flags.outputDir === undefined ? plan.stacks.find(isOf(settings)) : undefined;
  const outcome =
    own && (isNamed ? outcomeOfNamed(own, lastRetentionOf(settings)) : outcomeOfPlan(own, command));
  if (outcome !== undefined) session.noteRetention(outcome);
  return {
    value: { ...plan, dryRun: isDry },
    human: renderForget(plan, isDry),
    going: removedBy(plan).map(({ id }) => id),
    removed,
  };
}

/** Asks before anything goes, and once more before the newest complete snapshot does. */
async function confirm({ audience, ctx }: Session, plan: ForgetPlan, { yes }: ForgetFlags): Promise<void> {
  if (yes === true) return;
  audience.event({ type: 'message', level: 'info', message: `The plan:\n${renderForget(plan, true)}` });
  const ask = async (question: string): Promise<void> => {
    const answer = await audience.confirm(question, ctx.signal);
    if (answer === undefined) {
      throw new ConfigurationError(
        'Forget asks before it removes anything, and there is no terminal to ask',
        {
          hint: 'Read the plan with --dry-run, then add --yes.',
        },
      );
    }
    if (!answer) throw new TarsError('forget-refused', 'Nothing was removed, because you answered no');
  };
  await ask(`Remove ${counted(removedBy(plan).length, 'snapshot')}?`);
  for (const last of lastOnesRemovedBy(plan)) {
    await ask(
      `${shortId(last.id)} is the newest complete one of ${last.stack ?? ''} on ${last.hostname}. Remove that too?`,
    );
  }
}

const isOf =
  (settings: Settings) =>
  ({ stack, hostname }: StackForgetPlan): boolean =>
    stack === settings.stack && hostname === settings.host;
