import type { Command } from 'commander';
import { randomBytes } from 'node:crypto';
import { composeStack, openArchiveFile, openStore } from '../../compose.ts';
import { ConfigurationError, InterruptedError, RestoreRefusedError } from '../../model/errors.ts';
import { hasErrors } from '../../model/finding.ts';
import { shortId } from '../../model/snapshot.ts';
import { recoverInterrupted } from '../../operations/recover.ts';
import { planRestore, type StackRestorePlan } from '../../operations/restore-plan.ts';
import { executeRestore, type RestoreResult } from '../../operations/restore.ts';
import type { SnapshotSource } from '../../ports/snapshot-store.ts';
import { exitCodes } from '../exit-codes.ts';
import { formatBytes, formatMs } from '../render/units.ts';
import { collectNames, runVerb, type Session, type Surroundings } from '../session.ts';

interface RestoreFlags {
  readonly backupFile?: string;
  readonly component?: readonly string[];
  readonly skip?: readonly string[];
  readonly restoreConfig?: boolean;
  readonly skipValidation?: boolean;
  readonly discardPrevious?: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
  readonly force?: boolean;
}

export function addRestore(program: Command, surroundings: Surroundings): void {
  program
    .command('restore')
    .description('bring the stack, or parts of it, back from a snapshot')
    .argument('[snapshot]', 'id, a unique prefix of one, or latest (default: latest)')
    .option('--backup-file <file>', 'restore from this portable archive')
    .option('--component <names>', 'only these components (comma-separated, repeatable)', collectNames)
    .option('--skip <names>', 'all but these components', collectNames)
    .option('--restore-config', 'also replace configuration files that exist and differ')
    .option('--skip-validation', 'do not compare the restored content with the snapshot')
    .option('--discard-previous', 'delete the previous data once the restored data is verified')
    .option('--dry-run', 'show the plan and stop')
    .option('-y, --yes', 'do not ask')
    .option('--force', 'the same as --yes')
    .addHelpText(
      'after',
      '\nThe previous data is moved aside, not deleted; the way back is printed.\n\nExamples:\n  tars restore --dry-run\n' +
        '  tars restore latest --component postgres\n  tars restore --backup-file tars-backup-20261124_030000.tar.gz',
    )
    .action((snapshot: string | undefined, flags: RestoreFlags, command: Command) =>
      runVerb(command, surroundings, (session) => run(session, snapshot, flags)),
    );
}

async function run(session: Session, reference: string | undefined, flags: RestoreFlags): Promise<number> {
  const { ctx, env } = session;
  if (flags.backupFile !== undefined && reference !== undefined) {
    throw new ConfigurationError(`Restore from ${flags.backupFile} or from the snapshot ${reference}?`, {
      hint: 'Leave out either --backup-file or the snapshot.',
    });
  }
  const settings = await session.settings();
  if (flags.backupFile !== undefined) {
    await using source = await openArchiveFile(flags.backupFile, settings.scratch_dir, ctx);
    return await restoreFrom(session, source, flags);
  }
  await using store = await openStore(settings, env, ctx);
  await using source = await store.open(reference ?? 'latest', settings.stack, ctx);
  return await restoreFrom(session, source, flags);
}

async function restoreFrom(session: Session, source: SnapshotSource, flags: RestoreFlags): Promise<number> {
  const { ctx, audience } = session;
  const stack = await composeStack(await session.settings(), { includeModels: false }, session.env);
  const target = { ...stack, stack: stack.name };
  if (flags.dryRun !== true) await recoverInterrupted(target, stack.journal, ctx);
  const selection = {
    only: flags.component,
    skip: flags.skip ?? [],
    restoreConfig: flags.restoreConfig === true,
    startServices: flags.dryRun !== true,
    restoreId: randomBytes(4).toString('hex'),
  };
  const plan = await planRestore(source, target, selection, ctx);
  if (flags.dryRun === true) {
    audience.result(planValue(plan), renderPlan(plan));
    return exitCodes.success;
  }
  await requireConfirmation(session, plan, flags);
  const execution = {
    discardPrevious: flags.discardPrevious === true,
    skipValidation: flags.skipValidation === true,
  };
  const result = await executeRestore(plan, source, target, stack.journal, execution, ctx);
  for (const finding of result.findings) audience.event({ type: 'finding', finding });
  audience.result(result, renderResult(result));
  return hasErrors(result.findings) ? exitCodes.error : exitCodes.success;
}

async function requireConfirmation(
  { audience, ctx }: Session,
  plan: StackRestorePlan,
  flags: RestoreFlags,
): Promise<void> {
  if (flags.yes === true || flags.force === true) return;
  audience.event({ type: 'message', level: 'info', message: `The plan:\n${renderPlan(plan)}` });
  const answer = await audience.confirm('Restore?', ctx.signal).catch((cause: unknown) => {
    throw new InterruptedError('Interrupted', { cause });
  });
  if (answer === undefined) {
    throw new ConfigurationError(
      'A restore asks before it replaces anything, and there is no terminal to ask on',
      {
        hint: 'Look at the plan with --dry-run, then add --yes.',
      },
    );
  }
  if (!answer) throw new RestoreRefusedError('Not restored: you said no. Nothing was touched');
}

function planValue(plan: StackRestorePlan): unknown {
  const { manifest, planned, ...rest } = plan;
  return {
    ...rest,
    time: manifest.time,
    consistency: manifest.consistency,
    components: planned.map(({ plan: { details: _details, ...visible } }) => visible),
  };
}

function renderPlan(plan: StackRestorePlan): string {
  const totalBytes = plan.artifacts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return [
    `Restore snapshot ${shortId(plan.snapshot)} of ${plan.manifest.stack}, taken ${plan.manifest.time}`,
    `  verify ${plan.artifacts.length} artifacts (${formatBytes(totalBytes)}) before anything is touched`,
    ...plan.planned.flatMap(({ component, plan: { steps } }) => [
      `  ${component.name}:`,
      ...steps.map((step) => `    - ${step}`),
    ]),
    `  stop for the swap: ${plan.stop.join(', ') || 'nothing'}; then start: ${plan.start.join(', ') || 'nothing'}`,
    ...plan.warnings.map((warning) => `  Warning: ${warning}`),
  ].join('\n');
}

function renderResult(result: RestoreResult): string {
  const verdict = hasErrors(result.findings)
    ? 'Restored, but the content is not what was captured: see the errors above'
    : `Restored${result.validated ? ' and verified' : ', not compared with the snapshot'}: ${result.restored.join(', ')}`;
  const back =
    result.wayBack.length === 0
      ? []
      : [
          'The previous data was moved aside. The way back (databases renamed back by their running server, files with theirs stopped):',
          ...result.wayBack.map((l) => `  ${l}`),
        ];
  return [`${verdict} (snapshot ${shortId(result.snapshot)}, ${formatMs(result.durationMs)})`, ...back].join(
    '\n',
  );
}
