import { Option, type Command } from 'commander';
import {
  archiveDestination,
  archiveShelf,
  composeStack,
  openStore,
  type Stack,
} from '../../composition/index.ts';
import { artifactTotals } from '../../model/artifact-list.ts';
import { ConfigurationError } from '../../model/errors.ts';
import type { Manifest } from '../../model/manifest.ts';
import { shortId } from '../../model/snapshot.ts';
import { toolVersion } from '../../model/version.ts';
import {
  backup,
  planBackup,
  type BackupPlan,
  type BackupResult,
  type BackupTarget,
} from '../../operations/backup/backup.ts';
import { recoverInterrupted } from '../../operations/restore/recover.ts';
import type { SnapshotShelf } from '../../ports/snapshot-shelf.ts';
import type { SnapshotDestination } from '../../ports/snapshot-store.ts';
import { forgetAfterBackup } from '../after-backup.ts';
import { exitCodes } from '../exit-codes.ts';
import { directoryFromHere } from '../init/choices.ts';
import { addKeepOptions, rulesOfFlags, type KeepFlags } from '../keep-options.ts';
import { notCapturedLines } from '../render/not-captured.ts';
import { formatBytes, formatMs, formatTable } from '../render/units.ts';
import { collectNames, runVerb, type Session, type CliContext } from '../session.ts';
import { incompleteSentences, outcomeWord } from '../incomplete.ts';

interface BackupFlags extends KeepFlags {
  readonly outputDir?: string;
  readonly compression?: 'gzip' | 'zstd' | 'none';
  readonly only?: readonly string[];
  readonly skip?: readonly string[];
  readonly skipPostgres?: boolean;
  readonly skipChromadb?: boolean;
  readonly skipRedis?: boolean;
  readonly includeModels?: boolean;
  readonly dryRun?: boolean;
}

export function addBackup(program: Command, cli: CliContext): void {
  const command = program
    .command('backup')
    .description('take one snapshot of the whole stack, into the repository or a portable archive')
    .option('--output-dir <dir>', 'write a portable archive and its .sha256 there instead')
    .addOption(
      new Option('--compression <method>', 'of the archive (default: gzip)').choices([
        'gzip',
        'zstd',
        'none',
      ]),
    )
    .option('--only <names>', 'only these components (comma-separated, repeatable)', collectNames)
    .option('--skip <names>', 'all but these components', collectNames)
    .option('--skip-postgres', 'leave out every PostgreSQL component')
    .option('--skip-chromadb', 'leave out every Chroma component')
    .option('--skip-redis', 'leave out every Redis component')
    .option('--include-models', 'store the Ollama models whole, not only their list')
    .option('--dry-run', 'show what would be captured and stop')
    .addHelpText(
      'after',
      '\nWith --keep-last 7 or other rules of tars forget, a complete backup forgets\nwhat they do not keep.\n\nExamples:\n  tars backup\n  tars backup --only postgres,redis\n  tars backup --output-dir /mnt/nas --keep-last 7',
    )
    .action((flags: BackupFlags, command: Command) =>
      runVerb(command, cli, (session) => run(session, flags)),
    );
  addKeepOptions(command, { hidden: true });
}

async function run(session: Session, flags: BackupFlags): Promise<number> {
  const { ctx, audience, env } = session;
  if (flags.outputDir === undefined && flags.compression !== undefined) {
    throw new ConfigurationError('--compression is for archives, and this backup goes into the repository', {
      hint: 'Add --output-dir DIR, or leave --compression out.',
    });
  }
  const settings = await session.settings();
  const stack = await composeStack(
    settings,
    { includeModels: flags.includeModels === true, outputDir: flags.outputDir },
    env,
  );
  const target = backupTarget(stack, flags);
  if (flags.outputDir !== undefined) {
    const directory = directoryFromHere(flags.outputDir, env);
    const destination = archiveDestination(directory, flags.compression ?? 'gzip', settings);
    return runInto(destination, archiveShelf(directory));
  }
  await using store = await openStore(settings, env, ctx);
  return await runInto(store, store);

  async function runInto(destination: SnapshotDestination, shelf: SnapshotShelf): Promise<number> {
    if (flags.dryRun === true) {
      const plan = await planBackup(target, destination, ctx);
      audience.result(planValue(plan), renderPlan(plan));
      return exitCodes.success;
    }
    await recoverInterrupted({ ...stack, stack: stack.name }, stack.journal, ctx);
    const result = await backup(target, destination, ctx);
    audience.result(resultValue(result), renderResult(result));
    if (result.manifest.outcome === 'partial') {
      for (const message of failures(result.manifest))
        audience.event({ type: 'message', level: 'error', message });
      return exitCodes.partial;
    }
    const { outputDir } = flags;
    await forgetAfterBackup(session, shelf, settings, { outputDir, rules: rulesOfFlags(flags) });
    return exitCodes.success;
  }
}

function backupTarget(stack: Stack, flags: BackupFlags): BackupTarget {
  const names = stack.components.map(({ name }) => name);
  if (names.length === 0) {
    throw new ConfigurationError('tars.yaml names no component yet, so there is nothing to back up', {
      hint: 'Fill in its components section: the comments in it show how.',
    });
  }
  for (const name of [...(flags.only ?? []), ...(flags.skip ?? [])]) {
    if (!names.includes(name)) {
      throw new ConfigurationError(`There is no component ${name}`, {
        hint: `tars.yaml has: ${names.join(', ')}.`,
      });
    }
  }
  const skippedKinds = new Set([
    ...(flags.skipPostgres === true ? ['postgres'] : []),
    ...(flags.skipChromadb === true ? ['chroma'] : []),
    ...(flags.skipRedis === true ? ['redis'] : []),
  ]);
  const wanted = stack.components.filter(
    ({ name, kind }) =>
      (flags.only ?? names).includes(name) && flags.skip?.includes(name) !== true && !skippedKinds.has(kind),
  );
  if (wanted.length === 0) {
    throw new ConfigurationError('This selection leaves nothing to back up', {
      hint: `Between --only and --skip, leave at least one of: ${names.join(', ')}.`,
    });
  }
  const notCaptured: Manifest['notCaptured'] = stack.components
    .filter((component) => !wanted.includes(component))
    .map(({ name }) => ({ subject: name, reason: 'left out on request' }));
  return { ...stack, stack: stack.name, toolVersion, components: wanted, notCaptured };
}

function planValue(plan: BackupPlan): unknown {
  return {
    ...plan,
    components: plan.components.map(({ error, ...rest }) =>
      error === undefined
        ? rest
        : { ...rest, error: { code: error.code, message: error.message, hint: error.hint } },
    ),
  };
}

function renderPlan(plan: BackupPlan): string {
  const rows = plan.components.map(({ name, serverVersion, sizeBytes, summary, error }) => [
    name,
    serverVersion ?? '',
    sizeBytes === undefined ? '' : formatBytes(sizeBytes),
    error === undefined ? summary : `cannot be captured: ${error.message}`,
  ]);
  return [
    `Would back up ${plan.stack} to ${plan.destination}`,
    formatTable(['COMPONENT', 'VERSION', '>SIZE', 'WHAT'], rows),
    ...renderWriters(plan.writers),
    ...plan.components.flatMap(({ name, warnings }) =>
      warnings.map((warning) => `Warning: ${name}: ${warning}`),
    ),
    ...notCapturedLines(plan.notCaptured),
  ].join('\n');
}

function renderWriters({ pausable, idle, free, undeclared }: BackupPlan['writers']): string[] {
  if (pausable.length + idle.length + free.length + undeclared.length === 0)
    return [
      'Paused for the cut: nothing, as no service is marked as a writer; each store has its own moment',
    ];
  const list = (names: readonly string[], sentence: string): string[] =>
    names.length === 0 ? [] : [`${sentence}: ${names.join(', ')}`];
  return [
    ...list(pausable, 'Paused for the cut'),
    ...list(idle, 'Do not run, and need no pause'),
    ...list(
      free,
      'Cannot be paused (give them a pid_file or pause and resume), so each store has its own moment',
    ),
    ...list(
      undeclared.map(({ name, why }) => `${name} (${why})`),
      'Seem to write and are not paused, so each store has its own moment; say writer: true or writer: false under services in tars.yaml',
    ),
  ];
}

/** Also among the messages, for whoever keeps only those: a crontab line ends with `> /dev/null`. */
const failures = ({ components }: Manifest): readonly string[] => [
  ...components.flatMap(({ name, error }) =>
    error === undefined ? [] : [`${name} was not captured: ${error.message}`],
  ),
  ...incompleteSentences(components),
];

function resultValue({ manifest, snapshot }: BackupResult): unknown {
  const { summary, ...counts } = snapshot;
  return { snapshot: summary.id, ...counts, manifest };
}

function renderResult({ manifest, snapshot }: BackupResult): string {
  const rows = manifest.components.map((component) => [
    component.name,
    outcomeWord(component),
    formatBytes(artifactTotals(component).sizeBytes),
    component.error?.message ?? `${component.method ?? ''}${blockedNote(component.writesBlockedMs)}`,
  ]);
  const elapsedMs = Date.parse(manifest.finishedAt) - Date.parse(manifest.startedAt);
  const pause =
    manifest.writerPauseMs === undefined ? '' : `, writers paused for ${formatMs(manifest.writerPauseMs)}`;
  const consistency =
    manifest.consistency === 'cut'
      ? `one cut at ${manifest.time}`
      : `per store (${manifest.consistencyReason ?? ''})`;
  return [
    formatTable(['COMPONENT', 'OUTCOME', '>SIZE', 'HOW'], rows),
    ...manifest.components.flatMap((c) =>
      c.error?.hint === undefined ? [] : [`${c.name}: ${c.error.hint}`],
    ),
    ...notCapturedLines(manifest.notCaptured),
    `Consistency: ${consistency}${pause}`,
    `Snapshot ${shortId(snapshot.summary.id)} ${manifest.outcome} in ${formatMs(elapsedMs)}: ` +
      `${formatBytes(snapshot.processedBytes)} captured, ${formatBytes(snapshot.addedBytes)} added`,
  ].join('\n');
}

function blockedNote(writesBlockedMs = 0): string {
  return writesBlockedMs === 0 ? '' : `, own writes held for ${formatMs(writesBlockedMs)}`;
}
