import { Option, type Command } from 'commander';
import {
  archiveDestination,
  archiveShelf,
  composeStack,
  openStore,
  withEverything,
} from '../../composition/index.ts';
import { ConfigurationError } from '../../model/errors.ts';
import { missingFrom } from '../../model/manifest.ts';
import { toolVersion } from '../../model/version.ts';
import { backup, planBackup } from '../../operations/backup/backup.ts';
import { selectComponents } from '../../operations/backup/select.ts';
import { recoverInterrupted } from '../../operations/restore/recover.ts';
import type { SnapshotShelf } from '../../ports/snapshot-shelf.ts';
import type { SnapshotDestination } from '../../ports/snapshot-store.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { directoryFromHere } from '../init/choices.ts';
import { addKeepOptions, collectNames, rulesOfFlags, type KeepFlags } from '../flags.ts';
import { failureSentences, planValue, renderPlan, renderResult, resultValue } from '../render/backup.ts';
import { missingSentences } from '../render/captured.ts';
import { forgetOld } from '../wiring/retention.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

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
    .description('take a snapshot of the whole stack, into the repository or a portable archive')
    .option('--output-dir <dir>', 'write a portable archive and its .sha256 into this directory instead')
    .addOption(
      new Option('--compression <method>', 'compression of the archive (default: gzip)').choices([
        'gzip',
        'zstd',
        'none',
      ]),
    )
    .option('--only <names>', 'only these components (comma-separated, repeatable)', collectNames)
    .option('--skip <names>', 'skip these components (comma-separated, repeatable)', collectNames)
    .option('--skip-postgres', 'leave out every PostgreSQL component')
    .option('--skip-chromadb', 'leave out every Chroma component')
    .option('--skip-redis', 'leave out every Redis component')
    .option('--include-models', 'store the Ollama models themselves, not only their list')
    .option('--dry-run', 'print what would be captured, and change nothing')
    .addHelpText(
      'after',
      '\nWith --keep-last 7 or other rules of tars forget, a complete backup then forgets\nthe snapshots that these rules do not keep.\n\nExamples:\n  tars backup\n  tars backup --only postgres,redis\n  tars backup --output-dir /mnt/nas --keep-last 7',
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
      hint: 'Add --output-dir DIR, or omit --compression.',
    });
  }
  const settings = await session.settings();
  const overrides = { includeModels: flags.includeModels === true, outputDir: flags.outputDir };
  const whole = await withEverything(settings, env, ctx, overrides);
  const stack = await composeStack(whole.settings, overrides, env);
  const skipKinds = [
    ...(flags.skipPostgres === true ? ['postgres'] : []),
    ...(flags.skipChromadb === true ? ['chroma'] : []),
    ...(flags.skipRedis === true ? ['redis'] : []),
  ];
  const { only, skip } = flags;
  const selected = selectComponents(stack.components, { only, skip, skipKinds });
  const names = new Set(selected.components.map(({ name }) => name));
  const target = {
    ...{ ...stack, stack: stack.name, toolVersion, components: selected.components },
    notCaptured: [...selected.notCaptured, ...whole.atRisk],
    placeNotes: whole.placeNotes,
    implied: whole.implied.filter(({ component }) => names.has(component)),
    impliedFiles:
      whole.impliedFiles !== undefined && names.has(whole.impliedFiles.component)
        ? whole.impliedFiles.paths
        : [],
  };
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
      for (const message of failureSentences(result.manifest))
        audience.event({ type: 'message', level: 'error', message });
      return exitCodes.partial;
    }
    const { outputDir } = flags;
    await forgetOld(session, shelf, whole.settings, { outputDir, rules: rulesOfFlags(flags) });
    const missing = missingFrom(result.manifest);
    // Whoever chooses components knows that the others are missing.
    const isAsked = selected.components.length < stack.components.length;
    if (!settings.everything || isAsked || missing.length === 0) return exitCodes.success;
    for (const message of missingSentences(missing))
      audience.event({ type: 'message', level: 'warn', message });
    return exitCodes.partial;
  }
}
