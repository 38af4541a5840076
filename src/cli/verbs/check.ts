import type { Command } from 'commander';
import { checkArchiveFile, openStore } from '../../compose.ts';
import { hasErrors, type Finding } from '../../model/finding.ts';
import { counted } from '../../model/plural.ts';
import { exitCodes } from '../exit-codes.ts';
import { formatBytes } from '../render/units.ts';
import { runVerb, type Session, type Surroundings } from '../session.ts';
import { tmpdir } from 'node:os';

interface CheckFlags {
  readonly readData?: boolean;
  readonly backupFile?: string;
}

export function addCheck(program: Command, surroundings: Surroundings): void {
  program
    .command('check')
    .description('check the repository, or a portable archive, for damage')
    .option('--read-data', 'also read and verify every byte of every pack')
    .option('--backup-file <file>', 'verify this archive instead, without restoring it')
    .addHelpText(
      'after',
      '\nExamples:\n  tars check --read-data\n  tars check --backup-file tars-backup-20261124_030000.tar.gz',
    )
    .action((flags: CheckFlags, command: Command) =>
      runVerb(command, surroundings, (session) => run(session, flags)),
    );
}

async function run({ ctx, audience, env, settings }: Session, flags: CheckFlags): Promise<number> {
  const conclude = (findings: readonly Finding[], value: object, sound: string): number => {
    for (const finding of findings) audience.event({ type: 'finding', finding });
    const damaged = hasErrors(findings);
    const errors = findings.filter(({ severity }) => severity === 'error').length;
    audience.result(
      { ...value, findings },
      damaged ? `Damaged: ${counted(errors, 'error')}, listed above` : sound,
    );
    return damaged ? exitCodes.error : exitCodes.success;
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
