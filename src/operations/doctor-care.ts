import { parseRhythm } from '../model/rhythm.ts';
import { error, ok, warning, type HealthCheck, type Outcome } from './doctor.ts';

/** What tars.yaml says of secrets and of what runs by itself. */
export interface CareUnderExamination {
  /** Files with a secret in them that every user of the machine can read. */
  readonly exposed: readonly string[];
  readonly secrets: 'repository' | 'sealed' | 'redact-only';
  /** How many age recipients there are. */
  readonly recipients: number;
  /** Components that are configuration files, and what opens them once they are sealed. */
  readonly configurations: readonly { readonly name: string; readonly identityFile: string | undefined }[];
  /** Five fields of a crontab each; undefined without a `schedule` section. */
  readonly rhythms: Readonly<Record<string, string>> | undefined;
  readonly keepsByPolicy: boolean;
}

export function careChecks(care: CareUnderExamination): readonly HealthCheck[] {
  const check = (name: string, look: (care: CareUnderExamination) => readonly Outcome[]): HealthCheck => ({
    name,
    look: () => Promise.resolve(look(care)),
  });
  return [
    check('secrets', lookAtSecrets),
    check('true copies', lookAtTrueCopies),
    check('schedule', lookAtSchedule),
    check('retention', lookAtRetention),
  ];
}

function lookAtSecrets({ exposed }: CareUnderExamination): readonly Outcome[] {
  if (exposed.length === 0) return [ok('No file with a secret can be read by every user of this machine')];
  return exposed.map((file) =>
    warning(`Every user of this machine can read ${file}, which holds a secret`, `Run chmod 600 ${file}.`),
  );
}

/** Without a true copy of it, configuration does not come back from a machine that is gone. */
function lookAtTrueCopies(care: CareUnderExamination): readonly Outcome[] {
  const { secrets, recipients, configurations } = care;
  if (configurations.length === 0) return [];
  if (secrets === 'repository') return [ok('Configuration is kept whole in the repository, encrypted')];
  if (secrets === 'redact-only') {
    return [
      warning(
        'Secrets in configuration files are not kept at all: a restore brings back redacted files only',
        'Keep them elsewhere, or set secrets: repository in tars.yaml.',
      ),
    ];
  }
  if (recipients === 0) {
    return [error('secrets is sealed, and there are no age recipients', 'Give age_recipients in tars.yaml.')];
  }
  const closed = configurations.filter(({ identityFile }) => identityFile === undefined);
  if (closed.length === 0) return [ok('Configuration is sealed, and its identity file is known')];
  return [
    warning(
      `${closed.map(({ name }) => name).join(', ')} is sealed, and no age_identity_file here opens it`,
      'Make sure that the age identity is kept elsewhere; a restore needs it.',
    ),
  ];
}

function lookAtSchedule({ rhythms }: CareUnderExamination): readonly Outcome[] {
  if (rhythms?.['backup'] === undefined) {
    return [
      warning('tars.yaml has no rhythm for backups: somebody has to run them', 'Add schedule: to tars.yaml.'),
    ];
  }
  return Object.entries(rhythms).flatMap(([task, rhythm]) => {
    try {
      parseRhythm(rhythm);
      return [];
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      return [error(`schedule.${task} is no rhythm: ${cause.message}`, 'Correct it in tars.yaml.')];
    }
  });
}

function lookAtRetention({ keepsByPolicy, rhythms }: CareUnderExamination): readonly Outcome[] {
  if (keepsByPolicy) return [ok('tars.yaml says which snapshots are kept')];
  if (rhythms?.['forget'] !== undefined)
    return [
      error('schedule.forget has nothing to go by: retention keeps nothing', 'Add retention: to tars.yaml.'),
    ];
  return [warning('Nothing says which snapshots may go, so all are kept', 'Add retention: to tars.yaml.')];
}
