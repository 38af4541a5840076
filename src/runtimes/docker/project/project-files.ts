import { realpath } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { TarsError } from '../../../model/errors.ts';
import { readComposePaths } from '../compose/includes.ts';
import { composeVariables } from '../compose/env-files.ts';

/** What Compose was called with, as a container's labels say it. */
export interface ComposeCall {
  readonly workingDir: string | undefined;
  /** Absolute, in their order. */
  readonly files: readonly string[];
  readonly envFiles: readonly string[];
}

/** From labels of containers, by the names that both versions of Compose have for them. */
export interface CallLabels {
  readonly workingDir: string | undefined;
  readonly files: string | undefined;
  readonly envFiles: string | undefined;
}

/** Compose 1 writes paths relative to the working directory. Labels that say nothing give an empty call. */
export function callOf(labels: CallLabels): ComposeCall {
  const workingDir = labels.workingDir === '' ? undefined : labels.workingDir;
  const paths = (list: string | undefined): string[] =>
    (list ?? '')
      .split(',')
      .filter((path) => path !== '')
      .map((path) => resolve(workingDir ?? '/', path));
  return { workingDir, files: paths(labels.files), envFiles: paths(labels.envFiles) };
}

/**
 * The calls that bring a whole project up: one whose files another one names or includes adds nothing, and Compose would
 * take the same file for two. A file that is gone or that cannot be read includes nothing.
 */
export async function wholeCalls(calls: readonly ComposeCall[]): Promise<readonly ComposeCall[]> {
  const known = calls.filter(({ workingDir, files }) => workingDir !== undefined || files.length > 0);
  const distinct = [...new Map(known.map((call) => [JSON.stringify(call), call])).values()];
  if (distinct.length < 2) return distinct;
  const reached = await Promise.all(distinct.map(reachedFrom));
  const isIn = (call: ComposeCall, i: number): boolean => call.files.every((file) => reached[i]?.has(file));
  return distinct.filter(
    (call, i) =>
      !distinct.some(
        (other, j) =>
          // Of two with the same files, the first one stays.
          j !== i && isIn(call, j) && (!isIn(other, i) || other.files.length > call.files.length || j < i),
      ),
  );
}

async function reachedFrom({ files, workingDir, envFiles }: ComposeCall): Promise<ReadonlySet<string>> {
  const base = workingDir ?? dirname(files[0] ?? '/');
  try {
    return new Set(await readComposePaths(files, base, await composeVariables(base, envFiles, {})));
  } catch (error) {
    // What needs their content says so.
    if (error instanceof TarsError) return new Set(files);
    throw error;
  }
}

/** Whether Compose was run in `directory`, or the first of the project's files lies there. */
export async function runsFrom(
  {
    workingDirs,
    composeFiles: [first],
  }: { readonly workingDirs: readonly string[]; readonly composeFiles: readonly string[] },
  directory: string,
): Promise<boolean> {
  // A directory that is gone is called what it was called.
  const real = (path: string): Promise<string> => realpath(path).catch(() => path);
  const places = [...workingDirs, ...(first === undefined ? [] : [dirname(first)])];
  const [here, ...all] = await Promise.all([directory, ...places].map(real));
  return all.includes(here ?? directory);
}
