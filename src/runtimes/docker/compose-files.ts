import { access } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import type { Variables } from './variables.ts';

const defaultNames = ['compose.yaml', 'compose.yml', 'docker-compose.yml', 'docker-compose.yaml'] as const;

/** The Compose file of a directory; undefined when it has none. */
export async function findComposeFile(directory: string): Promise<string | undefined> {
  for (const name of defaultNames)
    if (await isThere(resolve(directory, name))) return resolve(directory, name);
  return undefined;
}

/** Compose adds it to the file with the default name by itself. */
export async function withOverride(composeFile: string): Promise<readonly string[]> {
  const [, stem, suffix] = /^(docker-compose|compose)\.(ya?ml)$/.exec(basename(composeFile)) ?? [];
  if (stem === undefined || suffix === undefined) return [composeFile];
  for (const other of [suffix, suffix === 'yml' ? 'yaml' : 'yml']) {
    const override = resolve(dirname(composeFile), `${stem}.override.${other}`);
    if (await isThere(override)) return [composeFile, override];
  }
  return [composeFile];
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** The name Compose gives a project: the environment's, the file's, the directory's. */
export function derivedProjectName(
  composeFile: string,
  fileName: string | undefined,
  variables: Variables,
): string {
  const given = variables['COMPOSE_PROJECT_NAME'];
  const name = given !== undefined && given !== '' ? given : (fileName ?? basename(dirname(composeFile)));
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]/g, '')
    .replace(/^[_-]+/, '');
}
