import { basename, dirname, join, resolve } from 'node:path';
import { isVisible } from '../../../disk/is-there.ts';
import { secretsOfEnvironment } from '../../../model/hide-secrets.ts';
import type { Environment } from '../../../model/environment.ts';
import type { SupportSource } from '../source.ts';
import { environmentLesson, fileSource, lessonSource, withoutPlaces } from './files.ts';

/** The folder of the bundle that configuration goes into. */
const folder = 'configuration';

/** A file of the operator's configuration. */
export const configurationFile = (path: string): SupportSource => fileSource(path, folder);

/** Files of a stack's configuration, as tars.yaml names them. */
interface ConfigurationFiles {
  /** Compose files and files of variables. */
  readonly named: readonly string[];
  /** What backups capture. */
  readonly captured: readonly string[];
}

/** Compose files and variables go in; of other captured configuration only the secrets are learned. */
export function configurationSources({ named, captured }: ConfigurationFiles): readonly SupportSource[] {
  const shown = new Set([...named, ...captured.filter(isOfCompose)]);
  const variables = new Set([...shown].filter(isComposeFile).map((path) => join(dirname(path), '.env')));
  return [
    ...[...shown].map(configurationFile),
    ...[...variables].filter((path) => !shown.has(path)).map(optionalFile),
    ...captured.filter((path) => !shown.has(path)).map(lessonSource),
  ];
}

const isComposeFile = (path: string): boolean => /^(?:docker-)?compose\b.*\.ya?ml$/.test(basename(path));
const isOfCompose = (path: string): boolean =>
  isComposeFile(path) || /^\.env(?:\.[\w.-]+)?$|\.env$/.test(basename(path));

/** Its absence is nothing to speak of. */
const optionalFile = (path: string): SupportSource => ({
  name: path,
  collect: async () => ({ further: (await isVisible(path)) ? [configurationFile(path)] : [] }),
});

/** The Compose files of this directory, and their variables. */
export const directoryComposeSource = (
  composeFilesIn: (directory: string) => Promise<readonly string[]>,
): SupportSource => ({
  name: 'Compose files',
  async collect() {
    const files = await composeFilesIn('.');
    return { further: [...files.map(configurationFile), optionalFile(resolve('.env'))] };
  },
});

/** The environment only teaches what its secrets are. */
export const environmentSource = (env: Environment): SupportSource => ({
  name: 'environment',
  collect() {
    const lines = Object.entries(env).map(([name, value]) => `${name}=${value ?? ''}`);
    return Promise.resolve({
      lessons: [environmentLesson(lines)],
      secrets: secretsOfEnvironment(withoutPlaces(lines)),
      omitted: [{ what: 'environment of this process', why: 'It may hold secrets' }],
    });
  },
});
