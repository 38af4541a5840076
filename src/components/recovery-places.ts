import type { RecoveryPart } from '../ports/kind.ts';
import { shellWord } from '../model/shell-word.ts';

/** The Compose service of a component; it is called as the component unless told otherwise. */
export const serviceOf = ({ component, home }: RecoveryPart): string => home.service ?? component.name;

/** A directory that files go into. */
export interface Place {
  /** Commands that copy what is in a folder of the snapshot, `FOLDER/.`, with modes and owners. */
  readonly fill: (folder: string) => readonly string[];
  readonly text: string;
}

/** Where the store keeps its files. */
export function placeOf(part: RecoveryPart): Place {
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
export function containerPlace(part: RecoveryPart, directory: string | undefined): Place {
  const must = 'The container must not run, and its volume must be empty.';
  const target = `${serviceOf(part)}:${directory ?? '/path/to/its/data'}/`;
  return {
    text: directory === undefined ? `${must} Put its data directory in the container into the line.` : must,
    fill: (folder) => [`compose cp -a ${shellWord(folder)} ${shellWord(target)}`],
  };
}

/** What a server had beside its data is the new one's own affair: nothing is overwritten unasked. */
export const ownFilesText = (
  files: readonly { readonly path: string; readonly artifact: string }[],
  what: string,
): string =>
  `${what} are in the snapshot and not in place yet. Compare them with the files of the new server. To use them, ` +
  `stop it and run: ${files.map(({ path, artifact }) => `cp ${shellWord(artifact)} ${shellWord(path)}`).join(' && ')}`;
