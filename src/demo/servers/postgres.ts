import { execa } from 'execa';
import { appendFile, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TarsError } from '../../model/errors.ts';
import { freePort, privateDirectory, runAs, type PrivateServer } from './common.ts';

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
 * Starts a private PostgreSQL under `directory` with superuser `tars` and the given password, over TCP only.
 * `directory` must be reachable for the system user `postgres` when we are root.
 */
export async function startPostgres(
  directory: string,
  password = 'correct-horse',
  wantedPort?: number,
): Promise<PrivatePostgres> {
  const binDir = await newestBinDir();
  const user = await runAs('postgres');
  const dataDir = join(directory, 'data');
  await mkdir(directory, { recursive: true });
  await privateDirectory(dataDir, user);
  const passwordFile = join(directory, 'initdb-password');
  await writeFile(passwordFile, password, { mode: 0o644 });
  const port = wantedPort ?? (await freePort());
  const run = async (argv: readonly string[]): Promise<void> => {
    const [file, ...rest] = [...user.prefix, ...argv];
    // A daemon that inherits a pipe keeps execa waiting for its end.
    await execa(file ?? '', rest, { cwd: '/', stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' });
  };
  const flags = [
    '-A',
    'scram-sha-256',
    '-U',
    'tars',
    '--pwfile',
    passwordFile,
    '-E',
    'UTF8',
    '--locale=C.UTF-8',
    '-N',
  ];
  await run([join(binDir, 'initdb'), '-D', dataDir, ...flags]);
  await appendFile(
    join(dataDir, 'postgresql.conf'),
    `port = ${port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nshared_buffers = 32MB\n`,
  );
  const pgCtl = join(binDir, 'pg_ctl');
  const startCommand = [
    ...user.prefix,
    pgCtl,
    '-D',
    dataDir,
    '-w',
    '-l',
    join(dataDir, 'server.log'),
    'start',
  ];
  const stopCommand = [...user.prefix, pgCtl, '-D', dataDir, '-w', '-m', 'fast', 'stop'];
  const start = (): Promise<void> => run(startCommand.slice(user.prefix.length));
  const stop = (): Promise<void> => run(stopCommand.slice(user.prefix.length)).catch(() => undefined);
  await start();
  return {
    host: '127.0.0.1',
    port,
    user: 'tars',
    password,
    binDir,
    dataDir,
    pidFile: join(dataDir, 'postmaster.pid'),
    startCommand,
    stopCommand,
    start,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
