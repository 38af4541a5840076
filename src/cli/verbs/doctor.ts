import type { Command } from 'commander';
import { hasErrors } from '../../operations/doctor/doctor.ts';
import { examineSetup } from '../wiring/examination.ts';
import { exitCodes } from '../session/exit-codes.ts';
import { renderDiagnoses, withCure } from '../render/diagnoses.ts';
import { runVerb, type Session, type CliContext } from '../session/session.ts';

export function addDoctor(program: Command, cli: CliContext): void {
  program
    .command('doctor')
    .description('check everything that backups and restores need; changes nothing')
    .addHelpText(
      'after',
      '\nThe exit code is 0 if there are at most warnings, and 1 if a backup or a restore\nwould fail.\n\nExamples:\n  tars doctor\n  tars doctor --json',
    )
    .action((_flags: unknown, command: Command) => runVerb(command, cli, run));
}

/** Not by the session's settings: those put right what a restore left, and nothing may change here. */
async function run({ ctx, audience, env, configPath }: Session): Promise<number> {
  const diagnoses = await examineSetup(configPath, env, ctx);
  const failing = hasErrors(diagnoses);
  audience.result(
    { healthy: !failing, diagnoses: diagnoses.map(withCure) },
    renderDiagnoses(diagnoses, audience.columns),
  );
  return failing ? exitCodes.error : exitCodes.success;
}
