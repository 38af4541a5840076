import type { BigIntStats } from 'node:fs';
import { isMissing } from '../../../disk/is-there.ts';
import type { OpenDirectory } from '../../../disk/open-directory.ts';

const stepsOf = (path: string): string[] => (path === '' ? [] : path.split('/'));

/** The last name of a relative path, and what is before it. */
export function splitPath(path: string): { readonly above: string; readonly name: string } {
  const at = path.lastIndexOf('/');
  return at < 0 ? { above: '', name: path } : { above: path.slice(0, at), name: path.slice(at + 1) };
}

/** Opens the directory at a relative path, one step after the other. @throws Error of the system */
export function openAlong(from: OpenDirectory, path: string): OpenDirectory {
  let at = from.openDirectory('.');
  for (const name of stepsOf(path)) {
    using above = at;
    at = above.openDirectory(name);
  }
  return at;
}

/** {@link openAlong}; undefined when there is no such directory. */
export function openAlongIfThere(from: OpenDirectory, path: string): OpenDirectory | undefined {
  try {
    return openAlong(from, path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** {@link openAlong}, creating what is missing. @throws Error of the system */
export async function ensureAlong(from: OpenDirectory, path: string): Promise<OpenDirectory> {
  let at = from.openDirectory('.');
  for (const name of stepsOf(path)) {
    using above = at;
    at = above.lstat(name) === undefined ? await above.createDirectory(name) : above.openDirectory(name);
  }
  return at;
}

/** What lies at a relative path; undefined for nothing. */
export function lstatAlong(from: OpenDirectory, path: string): BigIntStats | undefined {
  const { above, name } = splitPath(path);
  using parent = openAlongIfThere(from, above);
  return parent?.lstat(name);
}
