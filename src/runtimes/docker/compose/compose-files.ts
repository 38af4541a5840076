import type { Environment } from '../../../model/environment.ts';
import { readdir } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { isThere, whenMissing } from '../../../disk/is-there.ts';

const defaultNames = ['compose.yaml', 'compose.yml', 'docker-compose.yml', 'docker-compose.yaml'] as const;

/** `docker-compose.home.yml`: what people call a file that they name with -f. Overrides are none. */
const otherNames = /^(docker-)?compose[.-](?!override\.)[\w.-]+\.ya?ml$/;

/**
 * The Compose file of a directory: the one of a default name, or else the only one of a name like it; undefined when
 * there is none, or none that could be told from others.
 */
export async function findComposeFile(directory: string): Promise<string | undefined> {
  for (const name of defaultNames)
    if (await isThere(resolve(directory, name))) return resolve(directory, name);
  const names = await readdir(directory).catch(
    whenMissing<string[]>([], `Cannot look for a Compose file in ${directory}`),
  );
  const [only, another] = names.filter((name) => otherNames.test(name));
  return only === undefined || another !== undefined ? undefined : resolve(directory, only);
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

/** The name Compose gives a project: the environment's, the file's, the directory's. */
export function derivedProjectName(
  composeFile: string,
  fileName: string | undefined,
  variables: Environment,
): string {
  const given = variables['COMPOSE_PROJECT_NAME'];
  const name = given !== undefined && given !== '' ? given : (fileName ?? basename(dirname(composeFile)));
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]/g, '')
    .replace(/^[_-]+/, '');
}
