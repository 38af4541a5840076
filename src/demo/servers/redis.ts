import { startProgram } from '../../disk/start-program.ts';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { OperationContext } from '../../ports/context.ts';
import { freePort, onFreePort, type PickPort, type PrivateServer } from './common.ts';
import { endProcess, launchServer, type ServerProcess } from './server-process.ts';
import { redisWord } from '../../model/redis-words.ts';
import { shellWord } from '../../model/shell-word.ts';

export interface PrivateRedis extends PrivateServer {
  readonly configFile: string;
  readonly password: string | undefined;
}

export interface RedisSettings {
  readonly appendOnly?: boolean;
  readonly password?: string;
  /** Listens over TLS alone, where these words of redis-cli get in; its certificates are further lines. */
  readonly tls?: readonly string[];
  /** Further lines of redis.conf. */
  readonly lines?: readonly string[];
  readonly program?: string;
  readonly pickPort?: PickPort;
}

/** Starts a private Redis under `directory`. */
export async function startRedis(
  directory: string,
  ctx: Pick<OperationContext, 'clock' | 'signal'>,
  settings: RedisSettings = {},
): Promise<PrivateRedis> {
  const dataDir = join(directory, 'data');
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  return await onFreePort(settings.pickPort ?? freePort, async (port) => {
    const server = await prepareRedis(directory, dataDir, port, settings, ctx);
    await server.start();
    return server;
  });
}

async function prepareRedis(
  directory: string,
  dataDir: string,
  port: number,
  settings: RedisSettings,
  ctx: Pick<OperationContext, 'clock' | 'signal'>,
): Promise<PrivateRedis> {
  const configFile = join(directory, 'redis.conf');
  const pidFile = join(directory, 'redis.pid');
  const logFile = join(directory, 'redis.log');
  const lines = [
    `bind 127.0.0.1`,
    ...(settings.tls === undefined ? [`port ${port}`] : ['port 0', `tls-port ${port}`]),
    `dir ${redisWord(dataDir)}`,
    `daemonize yes`,
    `pidfile ${redisWord(pidFile)}`,
    `logfile ${redisWord(logFile)}`,
    `appendonly ${settings.appendOnly === true ? 'yes' : 'no'}`,
    ...(settings.password === undefined ? [] : [`requirepass ${redisWord(settings.password)}`]),
    ...(settings.lines ?? []),
  ];
  await writeFile(configFile, `${lines.join('\n')}\n`, { mode: 0o600 });
  const program = settings.program ?? 'redis-server';
  // It replaces its command line by its name and address.
  const marks = [configFile, `127.0.0.1:${port}`];
  const server: ServerProcess = { name: `Redis on port ${port}`, port, pidFile, marks };
  const tlsWords = settings.tls === undefined ? [] : ['--tls', ...settings.tls];
  const probe = async (signal: AbortSignal): Promise<void> => {
    const { stdout } = await startProgram(
      'redis-cli',
      ['-p', String(port), ...tlsWords, 'ping'],
      {
        env: settings.password === undefined ? {} : { REDISCLI_AUTH: settings.password },
      },
      signal,
    );
    if (stdout.trim() !== 'PONG') throw new Error(stdout);
  };
  const argv = [program, configFile, '--daemonize', 'no'];
  const pidWord = shellWord(pidFile);
  const stop = (): Promise<void> => endProcess(server, ctx.clock);
  return {
    host: '127.0.0.1',
    port,
    password: settings.password,
    dataDir,
    configFile,
    pidFile,
    startCommand: [program, configFile],
    // Ends by SIGTERM, so that no password is needed in argv.
    stopCommand: ['sh', '-c', `kill "$(cat ${pidWord})"; while [ -e ${pidWord} ]; do sleep 0.05; done`],
    start: () => launchServer(server, { argv, logFile, probe }, ctx),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
