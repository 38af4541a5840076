import { join, resolve } from 'node:path';
import { homeDirectory } from '../disk/home.ts';
import { ConfigurationError } from '../model/errors.ts';
import type { Environment } from '../model/environment.ts';

/**
 * A path as an operator writes it: `~` is home, what is relative starts at `base`.
 * @throws ConfigurationError for `~` where nobody knows the home
 */
export function absolutePath(base: string, path: string, env: Environment): string {
  if (path !== '~' && !path.startsWith('~/')) return resolve(base, path);
  const home = homeDirectory(env);
  if (home !== undefined) return join(home, path.slice(1));
  throw new ConfigurationError(`The home directory in ${path} is unknown: HOME is not set`, {
    hint: 'Set HOME, or write the whole path.',
  });
}

/** Kinds of addresses that restic, rclone and their like know, and one of scp or rsync (`host:/path`). */
const addresses =
  /^(?:(s3|sftp|rest|b2|rclone|azure|gs|swift|local|file|https?|ftps?|ssh|rsync|smb|nfs|davs?|webdavs?):|([\w-]+):\/\/|(?:[\w.-]+@)?[\w.-]+:\/)/i;

/**
 * A directory to write snapshots to.
 * @throws ConfigurationError for the address of a place that is none of this machine, such as `s3:…`; never shows it,
 *   since it may hold a password
 */
export function localDirectory(base: string, path: string, env: Environment): string {
  const address = addresses.exec(path);
  if (address === null) return absolutePath(base, path, env);
  const kind = (address[1] ?? address[2] ?? 'host').toLowerCase();
  if (kind === 'local' || kind === 'file') {
    throw new ConfigurationError(`Snapshots go to a directory, which is written without ${kind}:`, {
      hint: `Give only its path. If the directory really has this name, write ./${kind}:…`,
    });
  }
  throw new ConfigurationError(`Snapshots go to a directory; ${kind}: addresses are not supported yet`, {
    hint: `Mount that place (with rclone mount, sshfs or NFS) and give the directory where it is mounted. If a directory really has this name, write ./${kind}:…`,
  });
}
