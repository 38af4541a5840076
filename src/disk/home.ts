import { tmpdir, userInfo } from 'node:os';
import { isAbsolute, join } from 'node:path';

type Environment = Readonly<Record<string, string | undefined>>;

/** The home of the current user; undefined without HOME and without an entry in the password database. */
export function homeDirectory(env: Environment): string | undefined {
  const named = directoryNamed(env['HOME']);
  if (named !== undefined) return named;
  try {
    return directoryNamed(userInfo().homedir);
  } catch {
    return undefined;
  }
}

/** Where programs keep what they can fetch again (XDG Base Directory Specification). */
export function cacheDirectory(env: Environment): string {
  const home = homeDirectory(env);
  return directoryNamed(env['XDG_CACHE_HOME']) ?? (home === undefined ? tmpdir() : join(home, '.cache'));
}

/** Where programs keep their state, by the same specification; undefined without a home. */
export function stateDirectory(env: Environment): string | undefined {
  const home = homeDirectory(env);
  return directoryNamed(env['XDG_STATE_HOME']) ?? (home && join(home, '.local/state'));
}

/** Where programs look for their configuration, by the same specification. */
export function configDirectory(env: Environment): string {
  return directoryNamed(env['XDG_CONFIG_HOME']) ?? join(homeDirectory(env) ?? '/', '.config');
}

/** A variable that is empty or relative counts as not set. */
const directoryNamed = (value: string | undefined): string | undefined =>
  value !== undefined && isAbsolute(value) ? value : undefined;
