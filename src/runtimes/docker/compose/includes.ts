import { whenMissing } from '../../../disk/is-there.ts';
import type { Environment } from '../../../model/environment.ts';
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { includeSchema, listOf, type IncludeEntry } from './definition-schema.ts';
import { readEnvFile } from './env-files.ts';
import { textOf } from './variables.ts';

/** A Compose file as it is parsed, with the variables that files define for it. */
export interface ComposeText {
  readonly value: unknown;
  readonly variables: Environment;
}

/** A Compose file that another one includes. */
interface IncludedFile {
  readonly path: string;
  /** Where relative paths in it start. */
  readonly base: string;
  /** What defines variables for it, beside those of the file that includes it. */
  readonly envFiles: readonly string[];
  /** The environment file is the one that Compose reads unasked, and does without. */
  readonly isDefaultEnv: boolean;
}

/** Included files may include others, and in a circle by mistake. */
export const composeFilesMax = 64;

/** An address, such as of a Git repository, is no file. */
export const isLocal = (path: string): boolean => !/^(\w+:\/\/|oci:|git@)/.test(path);

/** What `include:` of a file names, whose relative paths start at `base`. */
export function includedFiles(entries: readonly IncludeEntry[], base: string): readonly IncludedFile[] {
  return entries.flatMap((entry) => {
    const given = typeof entry === 'string' ? { path: entry } : entry;
    const paths = listOf(given.path).filter(isLocal);
    const [first] = paths;
    if (first === undefined) return [];
    const directory =
      given.project_directory === undefined
        ? dirname(resolve(base, first))
        : resolve(base, given.project_directory);
    const named = listOf(given.env_file);
    const isDefaultEnv = named.length === 0;
    const envFiles = isDefaultEnv ? [resolve(directory, '.env')] : named.map((path) => resolve(base, path));
    return paths.map((path) => ({ path: resolve(base, path), base: directory, envFiles, isDefaultEnv }));
  });
}

/** The variables of an included file: those of the file that includes it go first. */
export async function includedVariables(
  { envFiles }: Pick<IncludedFile, 'envFiles'>,
  outer: Environment,
): Promise<Environment> {
  const read = await Promise.all(envFiles.map(readEnvFile));
  return { ...Object.assign({}, ...read), ...outer } as Environment;
}

/**
 * Compose files with those they include, as they are written. One that is not there or is no YAML says nothing: other
 * checks name it.
 * @throws TarsError when one cannot be read
 */
export async function readComposeTexts(
  composeFiles: readonly string[],
  directory: string,
  variables: Environment,
): Promise<readonly ComposeText[]> {
  return [...(await readAll(composeFiles, directory, variables)).values()];
}

/** {@link readComposeTexts}, the paths alone. */
export async function readComposePaths(
  composeFiles: readonly string[],
  directory: string,
  variables: Environment,
): Promise<readonly string[]> {
  return [...(await readAll(composeFiles, directory, variables)).keys()];
}

async function readAll(
  composeFiles: readonly string[],
  directory: string,
  variables: Environment,
): Promise<ReadonlyMap<string, ComposeText>> {
  const texts = new Map<string, ComposeText>();
  const queue = composeFiles.map((path) => ({ path, base: directory, variables }));
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    if (texts.has(next.path) || texts.size >= composeFilesMax) continue;
    const value = await parsedFile(next.path);
    texts.set(next.path, { value, variables: next.variables });
    const { include } = includingSchema.safeParse(value).data ?? {};
    for (const included of includedFiles(named(include ?? [], next.variables), next.base))
      queue.push({ ...included, variables: await includedVariables(included, next.variables) });
  }
  return texts;
}

const includingSchema = z.object({ include: z.array(includeSchema).nullish() });

async function parsedFile(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch(
    whenMissing(undefined, `Cannot read the Compose file ${path}`),
  );
  if (text === undefined) return undefined;
  try {
    return parse(text, { merge: true });
  } catch {
    return undefined;
  }
}

/** What cannot be put in stays as it is written, and names no file then. */
function named(entries: readonly IncludeEntry[], variables: Environment): readonly IncludeEntry[] {
  const put = (text: string): string => textOf(text, variables) ?? text;
  const all = (text: string | string[]): string | string[] =>
    typeof text === 'string' ? put(text) : text.map(put);
  return entries.map((entry) =>
    typeof entry === 'string'
      ? put(entry)
      : {
          ...{ path: all(entry.path) },
          ...(entry.env_file === undefined ? {} : { env_file: all(entry.env_file) }),
          ...(entry.project_directory === undefined
            ? {}
            : { project_directory: put(entry.project_directory) }),
        },
  );
}
