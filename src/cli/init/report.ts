import type { FoundProject } from '../../composition/index.ts';
import type { FoundStore, StackInventory } from '../../ports/inventory.ts';
import { counted } from '../../model/plural.ts';
import type { Settings } from '../../settings/load.ts';
import { hasErrors, type Diagnosis } from '../../operations/doctor/doctor.ts';
import { notCapturedLines } from '../render/captured.ts';
import { formatTable } from '../render/columns.ts';
import { formatBytes } from '../render/units.ts';

export function renderCreated({
  settingsPath,
  settings,
  isNew,
  tookRepository,
  newKey,
}: {
  readonly settingsPath: string;
  readonly settings: Settings;
  readonly isNew: boolean;
  readonly tookRepository: boolean;
  readonly newKey: string | undefined;
}): readonly string[] {
  const { path } = settings.repository;
  return [
    `${isNew ? 'Wrote' : 'Kept'} ${settingsPath}`,
    tookRepository ? `Kept the repository ${path}, which its key opens` : `Created the repository ${path}`,
    ...(newKey === undefined
      ? []
      : [
          `Recovery key, kept in ${settings.repository.password_file ?? ''} and shown only this once:`,
          '',
          `    ${newKey}`,
          '',
          'Without it no one can read the snapshots.',
          'Store a copy away from this machine now.',
        ]),
  ];
}

const dryRun = 'tars backup --dry-run';

export function renderFound({ components }: Settings, isNew: boolean): readonly string[] {
  const names = Object.keys(components);
  if (!isNew) return [names.length === 0 ? 'It names no component.' : `It names: ${names.join(', ')}.`];
  return [
    names.length === 0
      ? 'No store answered on its default port.'
      : `Found and filled in: ${names.join(', ')}.`,
  ];
}

/** What to type now: for who was guided so far, up to the first backup and the nights after it. */
export function renderNext(
  { settingsPath, schedule }: Settings,
  {
    diagnoses,
    ofProject,
  }: { readonly diagnoses: readonly Diagnosis[] | undefined; readonly ofProject: boolean },
): readonly string[] {
  if (diagnoses === undefined) {
    return ofProject
      ? [`Next: read ${settingsPath}, then list what would be captured: ${dryRun}`]
      : [
          `Next: complete components and services in ${settingsPath},`,
          `then list what would be captured: ${dryRun}`,
        ];
  }
  return [
    ...(hasErrors(diagnoses)
      ? [`Next: fix everything marked ERROR, mostly in ${settingsPath}, until tars doctor reports no error`]
      : []),
    `${hasErrors(diagnoses) ? 'Then' : 'Next'}: take the first snapshot: tars backup`,
    ...(schedule?.backup === undefined ? [] : ['and schedule one for every night: tars schedule install']),
  ];
}

export function renderInventory(settingsPath: string, inventory: StackInventory): readonly string[] {
  const { project, seenThrough, stores, writers, files, places, leftOut, unusedVolumes, notes } = inventory;
  const through = seenThrough === 'files' ? ', described by its Compose file only: it has no containers' : '';
  const rows = stores.map(({ service, kind, how }) => [service, kind, how]);
  const problems = files.flatMap(({ path, problem }) =>
    problem === undefined ? [] : [`${path} ${problem}`],
  );
  const names = writers.map(({ service }) => service);
  return [
    `The project ${project}${through}`,
    rows.length === 0
      ? 'No store was recognised in it.'
      : formatTable(['SERVICE', 'STORE', 'RECOGNISED'], rows),
    ...(places.length === 0
      ? []
      : [
          formatTable(
            ['DIRECTORY', '>SIZE', 'WHERE'],
            places.map(({ name, sizeBytes, service, inside, others }) => [
              name,
              sizeBytes === undefined ? '' : formatBytes(sizeBytes),
              [`${service}:${inside}`, ...others].join(', '),
            ]),
          ),
        ]),
    `Paused for the cut: ${names.length === 0 ? 'nothing, because no service is known to write to the stores' : names.join(', ')}`,
    `Configuration: ${counted(files.length - problems.length, 'file')}`,
    ...problems.map((problem) => `Not captured: ${problem}`),
    ...stores.flatMap(({ service, warning }) =>
      warning === undefined ? [] : [`Warning: ${service} ${warning}`],
    ),
    ...stores.flatMap((store) => passwordLines(store, settingsPath)),
    ...notCapturedLines(
      leftOut.map(({ service, destination, sizeBytes, reason, problem }) => ({
        subject: `${service}:${destination}`,
        reason: reason ?? problem ?? '',
        ...(sizeBytes === undefined ? {} : { sizeBytes }),
        status: reason === undefined ? ('missing' as const) : ('left-out' as const),
      })),
    ),
    ...unusedVolumes.map((name) => `Not captured: volume ${name} (no service has it)`),
    ...notes.map((note) => `Note: ${note}`),
  ];
}

function passwordLines({ service, password }: FoundStore, settingsPath: string): readonly string[] {
  if (password === 'needed')
    return [`Warning: the password of ${service} is unknown: set it in ${settingsPath}`];
  if (password !== 'unknown') return [];
  return [
    `Note: ${service} did not answer, so it is unknown whether it asks for a password: if it does, set it in ${settingsPath}`,
  ];
}

export function renderSuggestion(
  suggestion: FoundProject | undefined,
  settingsPath: string,
  { repository }: Settings,
): readonly string[] {
  if (suggestion === undefined) return [];
  return [
    `${suggestion.why}. To fill in tars.yaml from it,`,
    `remove ${settingsPath} and ${repository.path}, then run: tars init ${suggestion.flags}`,
  ];
}
