import { counted } from '../../model/plural.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RetentionWarning } from '../retention/retention-state.ts';
import { notStarted, type Scheduled } from '../schedule/scheduled.ts';
import { error, ok, warning, type HealthCheck, type Outcome } from './doctor.ts';

/** What tars.yaml says of itself, of secrets and of what runs by itself. */
export interface CareUnderExamination {
  readonly settingsPath: string;
  /** How many components it names. */
  readonly components: number;
  /** Whose snapshots it says these are, and what the machine calls itself. */
  readonly host: string;
  readonly machineName: string;
  /** Files with a secret in them that every user of the machine can read. */
  readonly exposed: (ctx: OperationContext) => Promise<readonly string[]>;
  readonly secrets: 'repository' | 'sealed' | 'redact-only';
  /** How many age recipients there are. */
  readonly recipients: number;
  /** Components that are configuration files, and what opens them once they are sealed. */
  readonly configurations: readonly { readonly name: string; readonly identityFile: string | undefined }[];
  /** Of what is to run by itself: five fields of a crontab each. */
  readonly times: Readonly<Record<string, string>>;
  readonly keepsByPolicy: boolean;
  /** What the last run that was to forget found in its way. */
  readonly retentionWarnings: (now: Date) => readonly RetentionWarning[];
  readonly scheduled: (ctx: OperationContext) => Promise<Scheduled>;
}

/** The checks of what the operator has to examine after: secrets, copies, schedule and retention. */
export function careChecks(care: CareUnderExamination): readonly HealthCheck[] {
  return [
    { name: 'configuration', examine: () => Promise.resolve(lookAtConfiguration(care)) },
    { name: 'secrets', examine: (ctx) => lookAtSecrets(care, ctx) },
    { name: 'true copies', examine: () => Promise.resolve(lookAtTrueCopies(care)) },
    { name: 'schedule', examine: (ctx) => lookAtSchedule(care, ctx) },
    { name: 'retention', examine: (ctx) => Promise.resolve(lookAtRetention(care, ctx.clock.now())) },
  ];
}

function lookAtConfiguration(care: CareUnderExamination): readonly Outcome[] {
  const { settingsPath, components, host, machineName } = care;
  const unnamed = host === machineName && containerName.test(host);
  return [
    components > 0
      ? ok(`${settingsPath} is valid: ${counted(components, 'component')}`)
      : error(
          `${settingsPath} names no component, so there is nothing to back up`,
          'Fill in its components section; its comments show how.',
        ),
    ...(unnamed
      ? [
          warning(
            `This host is called ${host}, which is a name that Docker gave to a container. The next container will count as another host, without snapshots`,
            'Set a permanent name in tars.yaml, such as host: backup-box.',
          ),
        ]
      : []),
  ];
}

/** What Docker calls a container's host unless it is told otherwise. */
const containerName = /^[0-9a-f]{12}$/;

async function lookAtSecrets(care: CareUnderExamination, ctx: OperationContext): Promise<readonly Outcome[]> {
  const exposed = await care.exposed(ctx);
  if (exposed.length === 0) return [ok('No file with a secret can be read by every user of this machine')];
  return exposed.map((file) =>
    warning(`Every user of this machine can read ${file}, which holds a secret`, `Run chmod 600 ${file}.`),
  );
}

/** Without a true copy of it, configuration does not come back from a machine that is gone. */
function lookAtTrueCopies(care: CareUnderExamination): readonly Outcome[] {
  const { secrets, recipients, configurations } = care;
  if (configurations.length === 0) return [];
  if (secrets === 'repository') return [ok('Configuration is kept completely in the repository, encrypted')];
  if (secrets === 'redact-only') {
    return [
      warning(
        'Secrets in configuration files are not kept at all: a restore creates only redacted files',
        'Keep the secrets in another place, or set secrets: repository in tars.yaml.',
      ),
    ];
  }
  if (recipients === 0) {
    return [error('secrets is sealed, and there are no age recipients', 'Give age_recipients in tars.yaml.')];
  }
  const closed = configurations.filter(({ identityFile }) => identityFile === undefined);
  if (closed.length === 0) return [ok('Configuration is sealed, and tars.yaml names its identity file')];
  return [
    warning(
      `${closed.map(({ name }) => name).join(', ')} is sealed, and no age_identity_file here opens it`,
      'Make sure that the age identity is kept in another place; a restore needs it.',
    ),
  ];
}

async function lookAtSchedule(
  { times, scheduled }: CareUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  if (times['backup'] === undefined) {
    return [
      warning(
        'tars.yaml schedules no backups, so someone has to run them',
        'Add a schedule to tars.yaml, for example every night at half past two: schedule: { backup: 30 2 * * * }',
      ),
    ];
  }
  const found = await scheduled(ctx);
  const { state, by = 'nothing', leftovers, lacks } = found;
  const missing = notStarted(found);
  const tasks = Object.keys(times).join(', ');
  const differs = warning(
    `The installed schedule (${by}) differs from schedule: in tars.yaml`,
    'Run tars schedule install, or keep tars daemon running.',
  );
  const said =
    missing !== undefined
      ? warning(`${missing.found}: ${tasks}`, missing.hint)
      : state === 'differs'
        ? differs
        : ok(`Scheduled with ${by}: ${tasks}`);
  const old = leftovers.map((name) =>
    warning(
      `The schedule that ${name} installed for the same tars.yaml still runs`,
      'Run tars schedule install.',
    ),
  );
  return [said, ...old, ...(lacks === undefined ? [] : [warning(lacks.message, lacks.hint)])];
}

function lookAtRetention(care: CareUnderExamination, now: Date): readonly Outcome[] {
  const { keepsByPolicy, times } = care;
  const found = care.retentionWarnings(now);
  if (found.length > 0) return found.map(({ found: what, hint }) => warning(what, hint));
  if (keepsByPolicy) return [ok('tars.yaml says which snapshots are kept')];
  const hint =
    'Add the rules to tars.yaml, for example: retention: { keep_daily: 7, keep_weekly: 4, keep_monthly: 12 }';
  if (times['forget'] !== undefined)
    return [error('schedule.forget has no rules: retention: in tars.yaml is missing', hint)];
  return [warning('No rule says which snapshots may be forgotten, so all are kept', hint)];
}
