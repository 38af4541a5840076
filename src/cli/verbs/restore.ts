import type { Command } from 'commander';
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { kindOf, composeStack, openArchiveFile, openStore } from '../../composition/index.ts';
import { artifactTotals } from '../../model/artifact-list.ts';
import { ConfigurationError, InterruptedError, RestoreRefusedError } from '../../model/errors.ts';
import { hasErrors, type Finding } from '../../model/finding.ts';
import { shortId } from '../../model/snapshot.ts';
import { counted } from '../../model/plural.ts';
import { openWanted } from '../../operations/restore/choose-snapshot.ts';
import { warnOfMissing } from '../../operations/backup/missing.ts';
import { recoverInterrupted } from '../../operations/restore/recover.ts';
import { planRestore, type StackRestorePlan } from '../../operations/restore/plan.ts';
import { executeRestore, type RestoreResult } from '../../operations/restore/restore.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotSource, SnapshotStore } from '../../ports/snapshot-store.ts';
import { ownerOf, type Settings } from '../../settings/load.ts';
import { settingsForProject } from '../../settings/other-project.ts';
import { exitCodes } from '../exit-codes.ts';
import { breakBetweenWords, formatBytes, formatMs } from '../render/units.ts';
import { collectNames, runVerb, type Session, type CliContext } from '../session.ts';

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
    .description('bring the stack, or parts of it, back from a snapshot')
    .argument('[snapshot]', 'id, a unique prefix of one, or latest (default: latest)')
    .option('--backup-file <file>', 'restore from this portable archive')
    .option('--from-host <name>', 'a snapshot that was taken on this other host')
    .option('--component <names>', 'only these components (comma-separated, repeatable)', collectNames)
    .option('--skip <names>', 'all but these components', collectNames)
    .option(
      '--database <names>',
      'only these PostgreSQL databases (comma-separated, repeatable)',
      collectNames,
    )
    .option('--accept-missing', 'restore without the parts that a server refuses, and end with exit code 2')
    .option('--restore-config', 'also replace configuration files that exist and differ')
    .option('--skip-validation', 'do not compare the restored content with the snapshot')
    .option('--discard-previous', 'delete the previous data once the restored data is verified')
    .option('--project <name>', 'into this other Compose project, beside the one of tars.yaml')
    .option('--compose-file <files>', 'of that project, in the order of overriding', collectNames)
    .option('--dry-run', 'show the plan and stop')
    .option('-y, --yes', 'do not ask')
    .option('--force', 'the same as --yes')
    .addHelpText(
      'after',
      '\nThe previous data is moved aside, not deleted; the way back is printed.\n\nExamples:\n  tars restore --dry-run\n' +
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
      hint: 'Leave out either --backup-file or the snapshot.',
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
  const { stack, target } = await targetOf(session, flags);
  if (flags.dryRun !== true) await recoverInterrupted(target, stack.journal, ctx);
  const selection = {
    only: flags.component,
    skip: [...(flags.skip ?? []), ...(await notTheirs(source, flags, ctx))],
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
  const foreign = foreignHost(await session.settings(), source, flags);
  const plan = { ...planned, warnings: [...foreignWarnings(foreign), ...missing, ...planned.warnings] };
  if (flags.dryRun === true) {
    audience.result(planValue(plan), renderPlan(plan, audience.columns));
    return exitCodes.success;
  }
  await requireConfirmation(session, plan, flags, foreign);
  const execution = {
    discardPrevious: flags.discardPrevious === true,
    skipValidation: flags.skipValidation === true,
    acceptMissing: (lacking: readonly Finding[]) => acceptMissing(session, lacking, flags),
  };
  const result = await executeRestore(plan, source, target, stack.journal, execution, ctx);
  for (const finding of result.findings) audience.event({ type: 'finding', finding });
  audience.result(result, renderResult(result));
  if (hasErrors(result.findings)) return exitCodes.error;
  return result.missing.length > 0 ? exitCodes.partial : exitCodes.success;
}

/** Shows what would be missing and asks; without a terminal the flag decides. */
async function acceptMissing(
  { audience, ctx }: Session,
  missing: readonly Finding[],
  flags: RestoreFlags,
): Promise<boolean> {
  if (flags.acceptMissing !== true && flags.yes !== true && flags.force !== true) {
    for (const finding of missing) audience.event({ type: 'finding', finding });
    return (await audience.confirm('Restore everything else?', ctx.signal)) === true;
  }
  if (flags.acceptMissing !== true) return false;
  for (const finding of missing) audience.event({ type: 'finding', finding });
  return true;
}

/** The configured stack, or with --project one beside it, whose restores are recorded under a name of its own. */
async function targetOf(session: Session, { project, composeFile, backupFile }: RestoreFlags) {
  const settings = await session.settings();
  if (project === undefined) {
    if (composeFile !== undefined) {
      throw new ConfigurationError('--compose-file is for restoring into another project', {
        hint: 'Add --project NAME, or name the files in docker.compose_files of tars.yaml.',
      });
    }
    const stack = await composeStack(settings, { includeModels: false, backupFile }, session.env);
    return { stack, target: { ...stack, stack: stack.name } };
  }
  const files = (composeFile ?? []).map((file) => resolve(file));
  const apart = settingsForProject(settings, project, files);
  const overrides = { includeModels: false, apartFrom: settings.docker?.project ?? '' };
  const stack = await composeStack(apart, overrides, session.env);
  return { stack, target: { ...stack, stack: `${stack.name}@${project}` } };
}

/** Configuration files are one project's, and are not touched for another. */
async function notTheirs(
  source: SnapshotSource,
  { project, component: only }: RestoreFlags,
  ctx: OperationContext,
): Promise<readonly string[]> {
  if (project === undefined) return [];
  const { components } = await source.manifest(ctx.signal);
  const files = components
    .filter(({ kind }) => kindOf(kind)?.isConfiguration === true)
    .map(({ name }) => name);
  const asked = files.find((name) => only?.includes(name));
  if (asked !== undefined) {
    throw new RestoreRefusedError(`The files of ${asked} are those of the first project, not of ${project}`, {
      hint: `Leave ${asked} or --project out.`,
    });
  }
  for (const name of files) ctx.log.info(`${name} is left out: its files are those of the first project`);
  return files;
}

/** A snapshot of another machine than this, which nobody has named. */
interface ForeignHost {
  readonly snapshot: string;
  readonly host: string;
  readonly own: string;
}

function foreignHost(
  { host: own }: Settings,
  { summary: { id, hostname: host } }: SnapshotSource,
  { fromHost }: RestoreFlags,
): ForeignHost | undefined {
  return host === own || host === fromHost ? undefined : { snapshot: shortId(id), host, own };
}

const foreignWarnings = (foreign: ForeignHost | undefined): readonly string[] =>
  foreign === undefined
    ? []
    : [`Snapshot ${foreign.snapshot} was taken on ${foreign.host}; this is ${foreign.own}`];

const foreignHint = ({ host }: ForeignHost): string =>
  `If you want the data of ${host} here, add --from-host ${host}. If this machine takes its place for good, write host: ${host} into tars.yaml.`;

async function requireConfirmation(
  { audience, ctx }: Session,
  plan: StackRestorePlan,
  flags: RestoreFlags,
  foreign: ForeignHost | undefined,
): Promise<void> {
  if (flags.yes === true || flags.force === true) {
    // Whoever says yes beforehand has not seen whose data it is.
    if (foreign !== undefined) throw refuseForeign(foreign);
    for (const warning of plan.warnings) ctx.log.warn(warning);
    return;
  }
  const shown = renderPlan(plan, audience.columns);
  audience.event({ type: 'message', level: 'info', message: `The plan:\n${shown}` });
  const question =
    foreign === undefined ? 'Restore?' : `Restore the data of ${foreign.host} on ${foreign.own}?`;
  const answer = await audience.confirm(question, ctx.signal).catch((cause: unknown) => {
    throw new InterruptedError('Interrupted; nothing was touched', { cause });
  });
  if (answer === undefined) {
    if (foreign !== undefined) throw refuseForeign(foreign);
    throw new ConfigurationError(
      'A restore asks before it replaces anything, and there is no terminal to ask on',
      {
        hint: 'Look at the plan with --dry-run, then add --yes.',
      },
    );
  }
  if (!answer) throw new RestoreRefusedError('Nothing was restored or changed, because you answered no');
}

function refuseForeign(foreign: ForeignHost): RestoreRefusedError {
  const { snapshot, host, own } = foreign;
  return new RestoreRefusedError(`Snapshot ${snapshot} was taken on the host ${host}, and this is ${own}`, {
    hint: foreignHint(foreign),
  });
}

function planValue(plan: StackRestorePlan): unknown {
  const { manifest, planned, provision, ...rest } = plan;
  return {
    ...rest,
    ...(provision === undefined ? {} : { provision: provision.plan }),
    hostname: manifest.hostname,
    time: manifest.time,
    consistency: manifest.consistency,
    components: planned.map(({ plan: shown }) => shown),
  };
}

/** On a terminal of so many `columns`, lines are broken between words. */
function renderPlan(plan: StackRestorePlan, columns = Infinity): string {
  const indented = (line: string): number => line.search(/[^ -]/) + (line.startsWith('    - ') ? 0 : 2);
  return planLines(plan)
    .map((line) => breakBetweenWords(line, indented(line), columns))
    .join('\n');
}

function planLines(plan: StackRestorePlan): readonly string[] {
  return [
    `Restore snapshot ${shortId(plan.snapshot)} of ${plan.manifest.stack} on ${plan.manifest.hostname}, taken ${plan.manifest.time}`,
    `  verify ${counted(plan.artifacts.count, 'artifact')} (${formatBytes(plan.artifacts.sizeBytes)}) before anything is touched`,
    ...renderProvision(plan),
    ...plan.planned.flatMap(({ component, plan: { steps } }) => [
      `  ${component.name}:`,
      ...(steps.length === 0 ? ['Nothing to do'] : steps).map((step) => `    - ${step}`),
    ]),
    `  stop for the swap: ${plan.stop.join(', ') || 'nothing'}; then start: ${plan.start.join(', ') || 'nothing'}`,
    ...plan.warnings.map((warning) => `  Warning: ${warning}`),
  ];
}

/** What is created comes after the files and before the stores. */
function renderProvision({ provision }: StackRestorePlan): string[] {
  if (provision?.plan.needed !== true) return [];
  const { plan, later } = provision;
  return [
    `  project ${plan.project}, after its files are in place:`,
    ...plan.steps.map((step) => `    - ${step}`),
    ...later.map((component) => {
      const { count, sizeBytes } = artifactTotals(component);
      return `    - Restore ${component.name} into its new container (${counted(count, 'artifact')}, ${formatBytes(sizeBytes)})`;
    }),
    '    - Start in the order of dependencies, each when those it needs are ready, and compare with the snapshot',
    '    - If anything fails, remove again what was created',
  ];
}

function renderResult(result: RestoreResult): string {
  const errors = result.findings.filter(({ severity }) => severity === 'error');
  const unwell = errors.filter(({ code }) => code.startsWith('service-')).map(({ subject }) => subject);
  const verdict = errors.some(({ code }) => !code.startsWith('service-'))
    ? 'Restored, but the content is not what was captured: see the errors above'
    : unwell.length > 0
      ? `Restored, but unhealthy: ${[...new Set(unwell)].join(', ')}; see the errors above`
      : result.missing.length > 0
        ? `Restored without ${counted(result.missing.length, 'part')} of the snapshot that the server refused (named above): ${result.restored.join(', ')}`
        : `Restored${result.validated ? ' and verified' : ', not compared with the snapshot'}: ${result.restored.join(', ')}`;
  return [
    `${verdict} (snapshot ${shortId(result.snapshot)}, ${formatMs(result.durationMs)})`,
    ...(result.notStarted.length === 0
      ? []
      : [`Not started, because they did not run before: ${result.notStarted.join(', ')}`]),
    ...renderWayBack(result),
  ].join('\n');
}

function renderWayBack({ wayBack, wayBackFile, byHand }: RestoreResult): string[] {
  const before = { component: 'stop what writes', lines: byHand?.stop ?? [] };
  const after = { component: 'start it again', lines: byHand?.start ?? [] };
  if (wayBack.every(({ lines }) => lines.length === 0)) return [];
  const moved = [before, ...wayBack, after].filter(({ lines }) => lines.length > 0);
  if (wayBackFile === undefined) return [];
  return [
    'The previous data was moved aside. To undo the restore, run these lines. They are also in',
    `${wayBackFile}:`,
    ...moved.flatMap(({ component, lines }) => [`  ${component}:`, ...lines.map((line) => `    ${line}`)]),
  ];
}
