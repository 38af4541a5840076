import { execa } from 'execa';
import { chown, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isThere } from '../../disk/is-there.ts';
import { ServiceUnavailableError, TarsError } from '../../model/errors.ts';
import {
  freePort,
  onFreePort,
  privateDirectory,
  runAs,
  type PickPort,
  type PrivateServer,
  type RunAs,
} from './common.ts';
import { runningPid, type ServerProcess } from './server-process.ts';

const logTailChars = 1000;

export interface PrivatePostgres extends PrivateServer {
  readonly user: 'tars';
  readonly password: string;
  /** Directory of `pg_dump`, `pg_restore`, `psql` of the server's version. */
  readonly binDir: string;
}

/** The newest PostgreSQL installed the Debian way. */
async function newestBinDir(): Promise<string> {
  const base = '/usr/lib/postgresql';
  const majors = (await readdir(base).catch(() => [])).map(Number).filter((major) => major > 0);
  if (majors.length === 0) {
    throw new TarsError('configuration', 'PostgreSQL is not installed', {
      hint: 'Install it: apt-get install postgresql',
    });
  }
  return join(base, String(Math.max(...majors)), 'bin');
}

/**
 * Starts a private PostgreSQL under `directory` with superuser `tars` and the given password, over TCP only. A cluster
 * that {@link createCluster} already made there is started as it is. `directory` must be reachable for the system user
 * `postgres` when we are root.
 * @param programs directory of initdb, pg_ctl and postgres; default: the newest version that is installed
 */
export async function startPostgres(
  directory: string,
  password = 'correct-horse',
  pickPort: PickPort = freePort,
  programs?: string,
): Promise<PrivatePostgres> {
  const binDir = programs ?? (await newestBinDir());
  const user = await runAs('postgres');
  const dataDir = join(directory, 'data');
  if (!(await isThere(join(dataDir, 'PG_VERSION')))) await createCluster(directory, password, programs);
  const settingsFile = join(dataDir, 'postgresql.conf');
  const defaults = await readFile(settingsFile, 'utf8');
  return await onFreePort(pickPort, async (port) => {
    const settings = `port = ${port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nshared_buffers = 32MB\n`;
    await writeFile(settingsFile, defaults + settings);
    const server = serverAt({ port, binDir, dataDir, password, user });
    await server.start();
    return server;
  });
}

/** Makes the cluster of {@link startPostgres} under `directory`, and does not start it. */
export async function createCluster(directory: string, password: string, programs?: string): Promise<void> {
  const binDir = programs ?? (await newestBinDir());
  const user = await runAs('postgres');
  const dataDir = join(directory, 'data');
  await mkdir(directory, { recursive: true });
  await privateDirectory(dataDir, user);
  const passwordFile = join(dataDir, '..', 'initdb-password');
  await writeFile(passwordFile, password, { mode: 0o600 });
  try {
    await chown(passwordFile, user.uid, user.gid);
    const flags = ['-A', 'scram-sha-256', '-U', 'tars', '--pwfile', passwordFile];
    const initdb = [...user.prefix, join(binDir, 'initdb'), '-D', dataDir, ...flags];
    await run([...initdb, '-E', 'UTF8', '--locale=C.UTF-8', '-N']);
  } finally {
    await rm(passwordFile);
  }
}

interface Place {
  readonly port: number;
  readonly binDir: string;
  readonly dataDir: string;
  readonly password: string;
  readonly user: RunAs;
}

function serverAt({ port, binDir, dataDir, password, user }: Place): PrivatePostgres {
  const pidFile = join(dataDir, 'postmaster.pid');
  const logFile = join(dataDir, 'server.log');
  const control = [...user.prefix, join(binDir, 'pg_ctl'), '-D', dataDir, '-w'];
  const startCommand = [...control, '-l', logFile, 'start'];
  const stopCommand = [...control, '-m', 'fast', 'stop'];
  const server: ServerProcess = { name: `PostgreSQL on port ${port}`, port, pidFile, marks: [dataDir] };
  const start = async (): Promise<void> => {
    try {
      await run(startCommand);
    } catch (cause) {
      await run([...control, '-m', 'immediate', 'stop']).catch(() => undefined);
      const said = (await readFile(logFile, 'utf8').catch(() => '')).slice(-logTailChars).trim();
      throw new ServiceUnavailableError(`Cannot start ${server.name}: ${said || 'it has no log'}`, { cause });
    }
  };
  const stop = async (): Promise<void> => {
    if ((await runningPid(server)) === undefined) return;
    try {
      await run(stopCommand);
    } catch (cause) {
      if ((await runningPid(server)) !== undefined) throw cause;
    }
  };
  return {
    host: '127.0.0.1',
    port,
    user: 'tars',
    password,
    binDir,
    dataDir,
    pidFile,
    startCommand,
    stopCommand,
    start,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function run(argv: readonly string[]): Promise<void> {
  const [program = '', ...args] = argv;
  // A daemon that inherits a pipe keeps execa waiting for its end.
  await execa(program, args, { cwd: '/', stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' });
}
