import type { Command } from 'commander';
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import {
  capturedFileIn,
  composeStack,
  kindOf,
  openArchiveFile,
  openStore,
  withImplied,
} from '../../composition/index.ts';
import { ConfigurationError } from '../../model/errors.ts';
import { hasErrors, type Finding } from '../../model/finding.ts';
import { openWanted } from '../../operations/restore/choose-snapshot.ts';
import { warnOfMissing } from '../../operations/backup/missing.ts';
import { recoverInterrupted } from '../../operations/restore/recover.ts';
import {
  acceptsMissing,
  foreignHost,
  foreignWarnings,
  requireConsent,
} from '../../operations/restore/consent.ts';
import { configurationLeftOut } from '../../operations/restore/other-project.ts';
import { planRestore } from '../../operations/restore/plan.ts';
import { executeRestore } from '../../operations/restore/restore.ts';
import type { SnapshotSource, SnapshotStore } from '../../ports/snapshot-store.ts';
import { ownerOf, type Settings } from '../../settings/load.ts';
import { settingsForProject } from '../../settings/other-project.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { planValue, renderPlan, renderResult } from '../render/restore.ts';
import { collectNames } from '../flags.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

interface RestoreFlags {
  readonly backupFile?: string;
  readonly fromHost?: string;
  readonly component?: readonly string[];
  readonly skip?: readonly string[];
  readonly database?: readonly string[];
  readonly acceptMissing?: boolean;
  readonly restoreConfig?: boolean;
  readonly skipValidation?: boolean;
  readonly discardPrevious?: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
  readonly force?: boolean;
  readonly project?: string;
  readonly composeFile?: readonly string[];
}

export function addRestore(program: Command, cli: CliContext): void {
  program
    .command('restore')
    .description('restore the stack, or parts of it, from a snapshot')
    .argument('[snapshot]', 'id, a unique prefix of one, or latest (default: latest)')
    .option('--backup-file <file>', 'restore from this portable archive')
    .option('--from-host <name>', 'use a snapshot that this other host took')
    .option('--component <names>', 'only these components (comma-separated, repeatable)', collectNames)
    .option('--skip <names>', 'skip these components (comma-separated, repeatable)', collectNames)
    .option(
      '--database <names>',
      'only these PostgreSQL databases (comma-separated, repeatable)',
      collectNames,
    )
    .option('--accept-missing', 'restore without the parts that a server refuses; the exit code is then 2')
    .option('--restore-config', 'also replace configuration files that exist and differ')
    .option('--skip-validation', 'do not compare the restored content with the snapshot')
    .option('--discard-previous', 'delete the previous data once the restored data is verified')
    .option('--project <name>', 'restore into this other Compose project, beside the project of tars.yaml')
    .option('--compose-file <files>', 'Compose files of that project, the overriding file last', collectNames)
    .option('--dry-run', 'print the plan, and change nothing')
    .option('-y, --yes', 'do not ask')
    .option('--force', 'the same as --yes')
    .addHelpText(
      'after',
      '\nThe previous data is moved aside, not deleted. At the end, tars prints the\ncommands that undo the restore.\n\nExamples:\n  tars restore --dry-run\n' +
        '  tars restore latest --component postgres\n  tars restore --backup-file tars-backup-20261124_030000.tar.gz\n' +
        '  tars restore --project copy --compose-file compose.yaml,compose.copy.yaml',
    )
    .action((snapshot: string | undefined, flags: RestoreFlags, command: Command) =>
      runVerb(command, cli, (session) => run(session, snapshot, flags)),
    );
}

async function run(session: Session, reference: string | undefined, flags: RestoreFlags): Promise<number> {
  const { ctx, env } = session;
  if (flags.backupFile !== undefined && reference !== undefined) {
    throw new ConfigurationError(`Restore from ${flags.backupFile} or from the snapshot ${reference}?`, {
      hint: 'Omit --backup-file or the snapshot.',
    });
  }
  const settings = await session.settings();
  if (flags.backupFile !== undefined) {
    await using source = await openArchiveFile(flags.backupFile, settings.scratch_dir, ctx);
    return await restoreFrom(session, { source }, flags);
  }
  await using store = await openStore(settings, env, ctx);
  const wish = { reference: reference ?? 'latest', owner: ownerOf(settings), fromHost: flags.fromHost };
  await using source = await openWanted(store, wish, ctx);
  return await restoreFrom(session, { source, store }, flags);
}

interface Origin {
  readonly source: SnapshotSource;
  /** Undefined for an archive. */
  readonly store?: SnapshotStore;
}

async function restoreFrom(
  session: Session,
  { source, store }: Origin,
  flags: RestoreFlags,
): Promise<number> {
  const { ctx, audience } = session;
  const settings = await withImplied(await session.settings(), await source.manifest(ctx.signal));
  const { stack, target } = await targetOf(session, settings, source, flags);
  if (flags.dryRun !== true) await recoverInterrupted(target, stack.journal, ctx);
  const { project, component: only } = flags;
  const isConfiguration = (kind: string): boolean => kindOf(kind)?.isConfiguration === true;
  const leftOut =
    project === undefined ? [] : await configurationLeftOut(source, { project, only, isConfiguration }, ctx);
  const selection = {
    only,
    skip: [...(flags.skip ?? []), ...leftOut],
    restoreConfig: flags.restoreConfig === true,
    startServices: flags.dryRun !== true,
    restoreId: randomBytes(4).toString('hex'),
    databases: flags.database,
  };
  const wanted = target.components.map(({ name }) => name).filter((name) => !selection.skip.includes(name));
  const missing =
    flags.component === undefined && flags.database === undefined
      ? await warnOfMissing(wanted, source, store, ctx)
      : [];
  const planned = await planRestore(source, target, selection, ctx);
  const foreign = foreignHost(settings.host, source.summary, flags.fromHost);
  const plan = { ...planned, warnings: [...foreignWarnings(foreign), ...missing, ...planned.warnings] };
  if (flags.dryRun === true) {
    audience.result(planValue(plan), renderPlan(plan, audience.columns));
    return exitCodes.success;
  }
  const operator = {
    saidYes: flags.yes === true || flags.force === true,
    confirm: (question: string, signal: AbortSignal) => audience.confirm(question, signal),
  };
  const showPlan = (): void =>
    audience.event({
      type: 'message',
      level: 'info',
      message: `The plan:\n${renderPlan(plan, audience.columns)}`,
    });
  await requireConsent({ warnings: plan.warnings, foreign }, operator, showPlan, ctx);
  const execution = {
    discardPrevious: flags.discardPrevious === true,
    skipValidation: flags.skipValidation === true,
    acceptMissing: (lacking: readonly Finding[]) =>
      acceptsMissing(
        lacking,
        operator,
        {
          accepted: flags.acceptMissing === true,
          show: (finding) => audience.event({ type: 'finding', finding }),
        },
        ctx.signal,
      ),
  };
  const result = await executeRestore(plan, source, target, stack.journal, execution, ctx);
  for (const finding of result.findings) audience.event({ type: 'finding', finding });
  audience.result(result, renderResult(result));
  if (hasErrors(result.findings)) return exitCodes.error;
  return result.missing.length > 0 ? exitCodes.partial : exitCodes.success;
}

/** The configured stack, or with --project one beside it, whose restores are recorded under a name of its own. */
async function targetOf(
  session: Session,
  settings: Settings,
  source: SnapshotSource,
  { project, composeFile, backupFile }: RestoreFlags,
) {
  const capturedFile = capturedFileIn(settings, source, session.ctx.signal);
  if (project === undefined) {
    if (composeFile !== undefined) {
      throw new ConfigurationError('--compose-file is for restoring into another project', {
        hint: 'Add --project NAME, or name the files in docker.compose_files of tars.yaml.',
      });
    }
    const stack = await composeStack(
      settings,
      { includeModels: false, backupFile, capturedFile },
      session.env,
    );
    return { stack, target: { ...stack, stack: stack.name } };
  }
  const files = (composeFile ?? []).map((file) => resolve(file));
  const apart = settingsForProject(settings, project, files);
  const overrides = { includeModels: false, apartFrom: settings.docker?.project ?? '', capturedFile };
  const stack = await composeStack(apart, overrides, session.env);
  return { stack, target: { ...stack, stack: `${stack.name}@${project}` } };
}
