import { constants } from 'node:fs';
import { access, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isMissing } from '../../../disk/is-there.ts';

/** What lies at a path, as far as this process sees it. */
export interface PlaceLook {
  readonly kind: 'directory' | 'file' | 'socket' | 'other' | 'missing' | 'unknown';
  readonly canRead: boolean;
  /** Whether this process may read and write it. */
  readonly canAccess: boolean;
  /** What lies in the directory, or some of it. */
  readonly names: readonly string[];
  /** The same one level below, `directory/name`. */
  readonly below: readonly string[];
}

/** What cannot be looked at from here. */
export const unseen: PlaceLook = { kind: 'unknown', canRead: false, canAccess: false, names: [], below: [] };

const namesMax = 200;
const directoriesMax = 20;

/** Looks at a path of this machine. Quick: a large directory is seen in part. */
export async function lookAt(path: string): Promise<PlaceLook> {
  let kind: PlaceLook['kind'];
  try {
    const stats = await stat(path);
    kind = stats.isDirectory()
      ? 'directory'
      : stats.isFile()
        ? 'file'
        : stats.isSocket()
          ? 'socket'
          : 'other';
  } catch (error) {
    return isMissing(error) ? { ...unseen, kind: 'missing' } : unseen;
  }
  const enter = kind === 'directory' ? constants.X_OK : 0;
  const [canRead, canAccess] = await Promise.all([
    may(path, constants.R_OK | enter),
    may(path, constants.R_OK | constants.W_OK | enter),
  ]);
  if (kind !== 'directory') return { ...unseen, kind, canRead, canAccess };
  const entries = await entriesOf(path);
  const directories = entries.filter(({ isDirectory }) => isDirectory).slice(0, directoriesMax);
  const below = await Promise.all(
    directories.map(async ({ name }) =>
      (await entriesOf(join(path, name))).map((entry) => `${name}/${entry.name}`),
    ),
  );
  return { kind, canRead, canAccess, names: entries.map(({ name }) => name), below: below.flat() };
}

const may = (path: string, rights: number): Promise<boolean> =>
  access(path, rights).then(
    () => true,
    () => false,
  );

/** What may not be listed counts as empty: whoever captures it says so. */
async function entriesOf(
  path: string,
): Promise<readonly { readonly name: string; readonly isDirectory: boolean }[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  return entries.slice(0, namesMax).map((entry) => ({ name: entry.name, isDirectory: entry.isDirectory() }));
}
