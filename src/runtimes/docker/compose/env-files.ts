import type { Environment } from '../../../model/environment.ts';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { hasErrno, toTarsError } from '../../../model/errors.ts';
import { parseEnvFile } from './variables.ts';

/** The variables Compose puts into the files of a directory: the environment's, then those of `.env`. */
export async function composeVariables(
  directory: string,
  envFiles: readonly string[],
  env: Environment,
): Promise<Environment> {
  const files = envFiles.length > 0 ? envFiles : [resolve(directory, '.env')];
  const read = await Promise.all(files.map((file) => readEnvFile(file)));
  return { ...Object.assign({}, ...read), ...env } as Environment;
}

/** The variables of one file: none when it is not there, or is nothing that can be read as a file. */
export async function readEnvFile(path: string): Promise<Readonly<Record<string, string>>> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (['ENOENT', 'ENOTDIR', 'EISDIR', 'EACCES'].some((errno) => hasErrno(error, errno))) return '';
    throw toTarsError(error, `Cannot read ${path}`);
  });
  return parseEnvFile(text);
}
