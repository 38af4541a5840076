import type { ComponentManifest, ComposeRecord } from '../../model/manifest.ts';
import { shellWord } from '../../model/shell-word.ts';

/** Where one component of the stack is at home, as far as the configuration says. */
export interface HomeOfComponent {
  readonly service?: string | undefined;
  /** Of a server. */
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
  /** Of a Redis: words of redis-cli that lead to it. */
  readonly redisCli?: readonly string[] | undefined;
  /** Of files. */
  readonly directory?: string | undefined;
  /** The directory is one of the service's container, not of the machine. */
  readonly inContainer?: boolean | undefined;
  readonly identityFile?: string | undefined;
}

/** What one component's part of the page is written from. */
export interface Part {
  readonly component: ComponentManifest;
  readonly home: HomeOfComponent;
  readonly compose: ComposeRecord | undefined;
}

/** The Compose service of a component; it is called as the component unless told otherwise. */
export const serviceOf = ({ component, home }: Part): string => home.service ?? component.name;

/** A directory that files go into. */
export interface Place {
  /** Commands that copy what is in a folder of the snapshot, `FOLDER/.`, with modes and owners. */
  readonly fill: (folder: string) => readonly string[];
  readonly text: string;
}

/** Where the store keeps its files. */
export function placeOf(part: Part): Place {
  const { directory, inContainer } = part.home;
  const isInContainer = inContainer ?? (part.compose !== undefined && directory === undefined);
  return isInContainer ? containerPlace(part, directory) : machinePlace(directory);
}

/** A directory of the machine. */
export function machinePlace(directory: string | undefined): Place {
  const must = 'Its service must not run, and the directory must be empty.';
  return {
    text: directory === undefined ? `${must} Put its data directory into the first line.` : must,
    fill: (folder) => [
      `DATA=${shellWord(directory ?? '/path/to/its/data')}`,
      'mkdir -p "$DATA"',
      `cp -a ${shellWord(folder)} "$DATA"/`,
    ],
  };
}

/** A container that was created and never started takes files into its volumes as well. */
export function containerPlace(part: Part, directory: string | undefined): Place {
  const must = 'The container must not run, and its volume must be empty.';
  const target = `${serviceOf(part)}:${directory ?? '/path/to/its/data'}/`;
  return {
    text: directory === undefined ? `${must} Put its data directory in the container into the line.` : must,
    fill: (folder) => [`compose cp -a ${shellWord(folder)} ${shellWord(target)}`],
  };
}
