import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { freeBytes } from '../../disk/space.ts';
import { RestoreRefusedError, TarsError } from '../../model/errors.ts';
import type { PostgresFacts } from './facts.ts';
import type { PostgresOptions } from './connection/options.ts';
import type { Session } from './connection/session.ts';

/** What a restore takes beside the live databases. */
interface SpaceNeeded {
  /** Whether it was seen that there is room. */
  readonly known: boolean;
  /** Directories of this machine that it is taken from. */
  readonly directories: readonly { readonly path: string; readonly sizeBytes: number }[];
}

/**
 * Looks at the server's disk: on this machine, or through the server's container.
 * @throws RestoreRefusedError when there is too little room
 */
export async function spaceNeeded(
  control: Session,
  options: PostgresOptions,
  facts: PostgresFacts,
  signal: AbortSignal,
): Promise<SpaceNeeded> {
  const sizeBytes = facts.databases.reduce((sum, database) => sum + database.sizeBytes, 0);
  const told = await toldDirectory(control, signal);
  if (told === undefined) return { known: false, directories: [] };
  const path = told.directory;
  if (await isLocal(told)) {
    requireRoom(path, sizeBytes, await freeBytes(path));
    return { known: true, directories: [{ path, sizeBytes }] };
  }
  const free = await freeInContainer(options, path, signal);
  if (free === undefined) return { known: false, directories: [] };
  requireRoom(`${path} of its container`, sizeBytes, free);
  return { known: true, directories: [] };
}

function requireRoom(place: string, neededBytes: number, free: number): void {
  if (neededBytes <= free) return;
  throw new RestoreRefusedError(
    `Not enough space in ${place} to restore beside the live databases: needs ${neededBytes} bytes, ${free} are free`,
    { hint: 'Free space there; the previous databases stay until they are discarded.' },
  );
}

interface ToldDirectory {
  readonly directory: string;
  /** Seconds since 1970. */
  readonly startedAt: number;
}

/** Where the server says its data is; undefined when this user is not told. */
async function toldDirectory(control: Session, signal: AbortSignal): Promise<ToldDirectory | undefined> {
  try {
    return await control.row(
      z.object({ directory: z.string(), startedAt: z.coerce.number() }),
      `SELECT current_setting('data_directory') AS directory,
         extract(epoch FROM pg_postmaster_start_time())::text AS "startedAt"`,
      signal,
    );
  } catch (error) {
    if (error instanceof TarsError && error.code === 'interrupted') throw error;
    return undefined;
  }
}

/** Whether the server runs on this machine and its directory is provably the one it reports. */
async function isLocal({ directory, startedAt }: ToldDirectory): Promise<boolean> {
  try {
    await access(directory, constants.R_OK | constants.X_OK);
    // Line 3 is the start time (PostgreSQL source, src/include/utils/pidfile.h). A directory of the same name
    // outside of the server's container has another, or none.
    const pidFile = (await readFile(join(directory, 'postmaster.pid'), 'utf8')).split('\n');
    return Math.abs(Number(pidFile[2]) - startedAt) <= 5;
  } catch {
    return false;
  }
}

/** What `df` says in the server's container; undefined where there is none, or no `df` in it. */
async function freeInContainer(
  { container }: PostgresOptions,
  path: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  if (container === undefined) return undefined;
  const call = { path: 'df', args: ['-P', '-k', path], environment: { LC_ALL: 'C' } };
  try {
    const said = Buffer.concat(await Array.fromAsync(container.runner.output(call, signal))).toString();
    // Device, size, used and available in units of 1024 bytes, capacity, mount point (POSIX, "df").
    const freeKib = /^.*\n\S.*?\s\d+\s+\d+\s+(-?\d+)\s+\d+%\s/.exec(said)?.[1];
    return freeKib === undefined ? undefined : Math.max(0, Number(freeKib)) * 1024;
  } catch (error) {
    if (error instanceof TarsError && error.code === 'interrupted') throw error;
    return undefined;
  }
}
