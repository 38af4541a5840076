import { basename, dirname, relative } from 'node:path';
import { stringify } from 'yaml';
import { formatBytes } from '../model/bytes.ts';
import type { FoundPlace, FoundStore, LeftOutMount, StackInventory } from '../ports/inventory.ts';
import { componentName, freeName } from '../model/component-name.ts';
import { schemaLine } from './json-schema.ts';
import { hostLines } from './template.ts';
import { careSections, type CareValues } from './template-sections.ts';

/** What {@link composeTemplate} fills in beside what was found. */
interface ComposeTemplateValues {
  readonly stack: string;
  readonly host?: string | undefined;
  readonly repositoryPath: string;
  readonly passwordFile: string;
  /** Where the text goes; files beside it are named relative to it. */
  readonly settingsPath: string;
  readonly care: CareValues;
}

/** The `tars.yaml` of a Compose project: short, with a comment where something was decided or is left to decide. */
export function composeTemplate(inventory: StackInventory, values: ComposeTemplateValues): string {
  const paths = new Paths(values.settingsPath);
  const sections = [
    [
      schemaLine,
      `# What tars backs up of the Compose project ${inventory.project}, and where it stores it.`,
      "# ${NAME} is replaced from the environment; relative paths start at this file's directory.",
      'version: 1',
      `stack: ${scalar(values.stack)}`,
      hostLines(values.host),
    ],
    [
      'repository:',
      `  path: ${scalar(values.repositoryPath)}`,
      '  # The recovery key. Keep a copy away from this machine: without it no one can read the snapshots.',
      `  password_file: ${scalar(values.passwordFile)}`,
    ],
    dockerSection(inventory, paths),
    ['components:', ...componentLines(inventory, paths)],
    everythingSection(inventory),
    servicesSection(inventory),
    ...careSections(values.care),
    inventory.notes.map((note) => `# ${note}`),
  ];
  return sections
    .filter((lines) => lines.length > 0)
    .map((lines) => `${lines.join('\n')}\n`)
    .join('\n');
}

class Paths {
  readonly #base: string;
  /** The file itself, such as `tars.yaml`. */
  readonly own: string;

  constructor(settingsPath: string) {
    this.#base = dirname(settingsPath);
    this.own = scalar(basename(settingsPath));
  }

  /** Relative where that is shorter and stays in the directory. */
  of(path: string): string {
    const way = relative(this.#base, path);
    return scalar(way === '' || way.startsWith('..') ? path : way);
  }
}

/** A string for YAML, quoted where it has to be, in which tars replaces nothing. */
const scalar = (text: string): string =>
  stringify(
    text.replaceAll('${', () => '$${'),
    { lineWidth: 0 },
  ).trimEnd();

/** Such as could be told apart by nothing else, it is its kind. */
function dockerSection(
  { project, host, composeFiles, envFiles, seenThrough }: StackInventory,
  paths: Paths,
): string[] {
  const list = (files: readonly string[]): string => `[${files.map((file) => paths.of(file)).join(', ')}]`;
  return [
    'docker:',
    `  project: ${scalar(project)}${seenThrough === 'files' ? ' # it has no containers yet; Compose will give it this name' : ''}`,
    composeFiles.length > 0
      ? `  compose_files: ${list(composeFiles)}`
      : '  # compose_files: [docker-compose.yml] # its containers do not record it; needed to create them again',
    ...(envFiles.length > 0 ? [`  env_files: ${list(envFiles)}`] : []),
    ...(host === undefined ? [] : [`  host: ${scalar(host)}`]),
  ];
}

function componentLines(inventory: StackInventory, paths: Paths): string[] {
  const { stores } = inventory;
  const blocks: string[][] = [];
  const taken = new Set(['config']);
  for (const store of stores) {
    const several = stores.filter(({ kind }) => kind === store.kind).length > 1;
    blocks.push(storeLines(store, freeName(componentName(several ? store.service : store.kind), taken)));
  }
  if (stores.length === 0) {
    blocks.push([
      '  # No store was recognised. Label its service in the Compose file (com.tars.service: postgres),',
      '  # or name it here:',
      '  # postgres:',
      '  #   service: NAME',
    ]);
  }
  blocks.push(configLines(inventory, paths));
  if (inventory.places.length > 0) blocks.push(placesLines(inventory.places, taken, paths));
  return blocks.flatMap((lines, i) => (i === 0 ? lines : ['', ...lines]));
}

function storeLines(store: FoundStore, name: string): string[] {
  const { kind, service, how, password, passwordFile, port, warning, riskIfUnmounted, proposal } = store;
  const needsCheck = how.endsWith('alone') ? '; if it is not one, label it com.tars.service: none' : '';
  return [
    ...(warning === undefined ? [] : [`  # ${riskIfUnmounted} until this is fixed: it ${warning}.`]),
    `  ${name}: # found ${how}${needsCheck}`,
    ...(name === kind ? [] : [`    kind: ${kind}`]),
    `    service: ${scalar(service)}`,
    ...(port === undefined ? [] : [`    port: ${port}`]),
    ...proposal.map((line) => `    ${line}`),
    ...(passwordFile === undefined ? [] : [`    password_file: ${scalar(passwordFile)}`]),
    ...passwordComment(password),
  ];
}

function passwordComment(password: FoundStore['password']): readonly string[] {
  if (password === 'needed')
    return ['    # password_file: FILE # a file with its password, which the container does not show'];
  if (password === 'unknown')
    return ['    # password_file: FILE # a file with its password, if it asks for one: it did not answer'];
  return [];
}

function configLines({ files }: StackInventory, paths: Paths): string[] {
  const own = `      - ${paths.own}`;
  const good = files.filter(({ problem }) => problem === undefined);
  const bad = files.filter(({ problem }) => problem !== undefined);
  const comments = bad.map(({ path, problem }) => `- ${paths.of(path)} # it ${problem ?? ''}`);
  if (good.length === 0) {
    return [
      '  config: # no readable Compose file was found',
      '    files:',
      own,
      ...comments.map((line) => `      # ${line}`),
    ];
  }
  return [
    '  config: # the Compose file and the files it mentions, and this file, with their secrets, encrypted with everything else',
    '    files:',
    ...good.map(({ path }) => `      - ${paths.of(path)}`),
    own,
    ...comments.map((line) => `      # ${line}`),
  ];
}

function placesLines(places: readonly FoundPlace[], taken: Set<string>, paths: Paths): string[] {
  return [
    '  # Volumes and directories of the services; while one is restored, its services are stopped.',
    ...places.flatMap((place) => {
      const { service, inside, type, source, sizeBytes, others, exclude } = place;
      const what = type === 'volume' ? `volume ${source}` : paths.of(source);
      const size = sizeBytes === undefined ? '' : `, ${formatBytes(sizeBytes)}`;
      const shared = others.length === 0 ? '' : `; the same as ${others.join(', ')}`;
      return [
        `  ${freeName(place.name, taken)}: # ${what}${size}${shared}`,
        '    kind: files',
        `    service: ${scalar(service)}`,
        `    inside: ${scalar(inside)}`,
        ...(exclude.length === 0
          ? []
          : [
              '    exclude: # other components capture these',
              ...exclude.map((each) => `      - ${scalar(each)}`),
            ]),
      ];
    }),
  ];
}

const key = ({ service, destination }: LeftOutMount): string => scalar(`${service}:${destination}`);

function everythingSection({ leftOut, unusedVolumes }: StackInventory): string[] {
  const quiet = leftOut.filter(({ reason }) => reason !== undefined);
  const open = [
    ...leftOut.flatMap((mount) =>
      mount.problem === undefined ? [] : [[key(mount), mount.problem] as const],
    ),
    ...unusedVolumes.map((name) => [scalar(`volume ${name}`), 'no service has it'] as const),
  ];
  return [
    '# Also captured: volumes and directories that no component above names, such as those of a service that is added later.',
    'everything: true',
    ...(open.length === 0
      ? []
      : [
          '# These cannot be captured. Fix that, or list them under leave_out; until then each backup ends with exit code 2:',
          ...open.map(([place, problem]) => `#   ${place} # ${problem}`),
        ]),
    ...(quiet.length === 0
      ? ['# What a restore need not bring back, and why:', '# leave_out:', '#   SERVICE:/PATH: the reason']
      : [
          '# What a restore need not bring back, and why. To have one captured, remove its line:',
          'leave_out:',
          ...quiet.map((mount) => `  ${key(mount)}: ${scalar(mount.reason ?? '')}`),
        ]),
  ];
}

function servicesSection({ writers }: StackInventory): string[] {
  const heading = [
    '# These services write to the stores, so tars pauses them for some milliseconds to fix the moment of a snapshot; at most:',
    '# pause_max_ms: 5000',
  ];
  if (writers.length === 0) {
    return [
      '# No service was found that writes to the stores. Add it, so that all stores are captured at one moment:',
      '# services:',
      '#   NAME:',
      '#     writer: true',
    ];
  }
  return [
    ...heading,
    'services:',
    ...writers.flatMap(({ service, why }) => [`  ${scalar(service)}:`, `    writer: true # ${why}`]),
  ];
}
