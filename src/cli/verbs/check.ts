import { tmpdir } from 'node:os';
import type { Command } from 'commander';
import { checkArchiveFile, openStore } from '../../composition/index.ts';
import { hasErrors, type Finding } from '../../model/finding.ts';
import { counted } from '../../model/plural.ts';
import { exitCodes } from '../exit-codes.ts';
import { formatBytes } from '../render/units.ts';
import { runVerb, type Session, type CliContext } from '../session.ts';

interface CheckFlags {
  readonly readData?: boolean;
  readonly backupFile?: string;
}

export function addCheck(program: Command, cli: CliContext): void {
  program
    .command('check')
    .description('check the repository, or a portable archive, for damage')
    .option('--read-data', 'also read and verify every byte of every pack')
    .option('--backup-file <file>', 'verify this archive instead, without restoring it')
    .addHelpText(
      'after',
      '\nExamples:\n  tars check --read-data\n  tars check --backup-file tars-backup-20261124_030000.tar.gz',
    )
    .action((flags: CheckFlags, command: Command) => runVerb(command, cli, (session) => run(session, flags)));
}

async function run({ ctx, audience, env, settings }: Session, flags: CheckFlags): Promise<number> {
  const conclude = (findings: readonly Finding[], value: object, sound: string): number => {
    for (const finding of findings) audience.event({ type: 'finding', finding });
    if (!hasErrors(findings)) {
      audience.result({ ...value, findings }, sound);
      return exitCodes.success;
    }
    const steps = needHealing(findings) ? healingSteps : [];
    audience.result({ ...value, findings, steps }, [verdictOn(findings), ...numbered(steps)].join('\n'));
    return exitCodes.error;
  };
  if (flags.backupFile !== undefined) {
    const findings = await checkArchiveFile(flags.backupFile, tmpdir(), ctx);
    return conclude(findings, { archive: flags.backupFile }, `${flags.backupFile} is sound`);
  }
  await using store = await openStore(await settings(), env, ctx);
  const report = await store.check({ readData: flags.readData === true }, ctx);
  const extent =
    flags.readData === true
      ? `every byte of ${formatBytes(report.readBytes)} was read`
      : 'structure only; --read-data reads every byte';
  const { findings, ...counts } = report;
  return conclude(
    findings,
    counts,
    `No damage: ${counted(report.snapshots, 'snapshot')}, ${counted(report.packs, 'pack')}, ${counted(report.blobs, 'blob')} (${extent})`,
  );
}

/** How a repository with damaged packs becomes whole again; docs/BACKUP_RECOVERY.md has it at more length. */
const healingSteps: readonly string[] = [
  'If a copy of the repository has a whole file of that name, copy it back, then run tars check --read-data again.',
  'Run tars backup: it stores again what it needs of these packs, wherever the stack still holds it.',
  'Run tars check --read-data: it names the snapshots that still cannot be restored whole, and their files. Restore from them now whatever you need, then remove them with tars forget <id>.',
  'Run tars prune: it saves what is whole of damaged packs, and only then removes them.',
];

const isUnreadable = ({ code }: Finding): boolean =>
  code.endsWith('-unreadable') || code === 'listing-failed';

const needHealing = (findings: readonly Finding[]): boolean =>
  findings.some(({ code }) =>
    ['pack-missing', 'pack-size-differs', 'pack-damaged', 'tree-damaged'].includes(code),
  );

/** What could not be read is not called damaged. */
function verdictOn(findings: readonly Finding[]): string {
  const errors = findings.filter(({ severity }) => severity === 'error');
  const unreadable = errors.filter(isUnreadable).length;
  const damaged = errors.length - unreadable;
  if (damaged === 0)
    return `Not checked whole: ${counted(unreadable, 'file')} could not be read, listed above`;
  const more = unreadable === 0 ? '' : `; ${counted(unreadable, 'file')} could not be read`;
  return `Damaged: ${counted(damaged, 'error')}, listed above${more}`;
}

const numbered = (steps: readonly string[]): string[] =>
  steps.map((step, index) => `  ${index + 1}. ${step}`);
