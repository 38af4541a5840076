import { tmpdir } from 'node:os';
import type { Command } from 'commander';
import { checkArchiveFile, openStore } from '../../composition/index.ts';
import { hasErrors, type Finding } from '../../model/finding.ts';
import { stepsForArchive, stepsToHeal } from '../../operations/verify/heal.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { renderDamage, renderSound } from '../render/check.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

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
  const conclude = (
    findings: readonly Finding[],
    steps: readonly string[],
    value: object,
    sound: string,
  ): number => {
    for (const finding of findings) audience.event({ type: 'finding', finding });
    if (!hasErrors(findings)) {
      audience.result({ ...value, findings }, sound);
      return exitCodes.success;
    }
    audience.result({ ...value, findings, steps }, renderDamage(findings, steps));
    return exitCodes.error;
  };
  if (flags.backupFile !== undefined) {
    const findings = await checkArchiveFile(flags.backupFile, tmpdir(), ctx);
    const steps = stepsForArchive(findings);
    return conclude(findings, steps, { archive: flags.backupFile }, `${flags.backupFile} is sound`);
  }
  const readData = flags.readData === true;
  await using store = await openStore(await settings(), env, ctx);
  const report = await store.check({ readData }, ctx);
  const { findings, ...counts } = report;
  return conclude(findings, stepsToHeal(findings), counts, renderSound(report, readData));
}
