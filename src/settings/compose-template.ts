import { basename, dirname, relative } from 'node:path';
import { stringify } from 'yaml';
import type { FoundStore, LeftOutMount, StackInventory } from '../ports/inventory.ts';
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
    blocks.push(storeLines(store, componentName(several ? store.service : store.kind, taken)));
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
  const left = leftOutLines(inventory.leftOut, taken);
  if (left.length > 0) blocks.push(left);
  return blocks.flatMap((lines, i) => (i === 0 ? lines : ['', ...lines]));
}

/** As components may be called, and no other is. */
function componentName(wanted: string, taken: Set<string>): string {
  const base =
    wanted
      .toLowerCase()
      .replaceAll(/[^a-z0-9_-]/g, '-')
      .replace(/^[_-]+/, '') || 'store';
  let name = base;
  for (let number = 2; taken.has(name); number++) name = `${base}-${number}`;
  taken.add(name);
  return name;
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
    ...(password === 'needed'
      ? ['    # password_file: FILE # a file with its password, which the container does not show']
      : []),
  ];
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

const describeMount = ({ type, source }: LeftOutMount): string =>
  type === 'volume' ? `volume ${source}` : source;

function leftOutLines(mounts: readonly LeftOutMount[], taken: Set<string>): string[] {
  const directories = mounts.filter(({ isDirectory }) => isDirectory);
  if (directories.length === 0) return [];
  return [
    '  # Nothing above captures these. Uncomment the ones that a restore should create again:',
    ...directories.flatMap((mount) => {
      const { service, destination } = mount;
      const name = componentName(`${service}-${destination.split('/').at(-1) ?? 'files'}`, taken);
      return [
        `  # ${name}: # ${describeMount(mount)}`,
        '  #   kind: files',
        `  #   service: ${scalar(service)}`,
        `  #   inside: ${scalar(destination)}`,
      ];
    }),
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
