import type { Environment } from '../../../model/environment.ts';
import { resolve } from 'node:path';
import type { ShellVariable } from '../../../ports/provisioner.ts';
import { readEnvFile } from './env-files.ts';
import { envFileText } from './variables.ts';

/** Beside the Compose file: what a restore brings back of the variables that only a shell had. Compose reads it when told to. */
export const shellFileName = '.env.tars';

/** The values that are known, as a file for Compose; undefined when there are none. */
export function shellFileText(variables: readonly ShellVariable[]): string | undefined {
  const known = variables.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value] as const]));
  if (known.length === 0) return undefined;
  return `# Environment that only a shell had, as the containers showed them. Move them into .env, or give this file to
# Compose as well: docker compose --env-file .env --env-file ${shellFileName} up
${envFileText(Object.fromEntries(known))}`;
}

/** The variables of the file in the project's directory; none where there is no such file. */
export const readShellFile = (directory: string): Promise<Environment> =>
  readEnvFile(resolve(directory, shellFileName));
