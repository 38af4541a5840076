import { execa } from 'execa';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { OperationContext } from '../../ports/context.ts';
import { freePort, waitUntil, type PrivateServer } from './common.ts';

export interface PrivateRedis extends PrivateServer {
  readonly configFile: string;
  readonly password: string | undefined;
}

/** Starts a private Redis under `directory`. `settings` are lines of redis.conf. */
export async function startRedis(
  directory: string,
  ctx: Pick<OperationContext, 'clock' | 'signal'>,
  settings: { appendOnly?: boolean; password?: string; lines?: readonly string[]; program?: string } = {},
): Promise<PrivateRedis> {
  const dataDir = join(directory, 'data');
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const port = await freePort();
  const configFile = join(directory, 'redis.conf');
  const pidFile = join(directory, 'redis.pid');
  const lines = [
    `bind 127.0.0.1`,
    `port ${port}`,
    `dir ${dataDir}`,
    `daemonize yes`,
    `pidfile ${pidFile}`,
    `logfile ${join(directory, 'redis.log')}`,
    `appendonly ${settings.appendOnly === true ? 'yes' : 'no'}`,
    ...(settings.password === undefined ? [] : [`requirepass ${settings.password}`]),
    ...(settings.lines ?? []),
  ];
  await writeFile(configFile, `${lines.join('\n')}\n`, { mode: 0o600 });
  const env = settings.password === undefined ? {} : { REDISCLI_AUTH: settings.password };
  const cli = (...args: string[]): Promise<{ stdout: string }> =>
    execa('redis-cli', ['-p', String(port), ...args], { env });
  const program = settings.program ?? 'redis-server';
  const start = async (): Promise<void> => {
    await execa(program, [configFile], { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' });
    await waitUntil(
      `Redis on port ${port}`,
      async () => {
        const { stdout } = await cli('ping');
        if (stdout.trim() !== 'PONG') throw new Error(stdout);
      },
      ctx,
    );
  };
  const running = async (): Promise<boolean> =>
    cli('ping').then(
      () => true,
      () => false,
    );
  const stop = async (): Promise<void> => {
    if (!(await running())) return;
    await cli('shutdown').catch(() => undefined);
    await waitUntil(
      `The end of Redis on port ${port}`,
      async () => {
        if (await running()) throw new Error('still running');
      },
      { clock: ctx.clock, signal: new AbortController().signal },
    );
  };
  await start();
  return {
    host: '127.0.0.1',
    port,
    password: settings.password,
    dataDir,
    configFile,
    pidFile,
    startCommand: [program, configFile],
    // Ends by SIGTERM, so that no password is needed in argv.
    stopCommand: ['sh', '-c', `kill "$(cat '${pidFile}')"; while [ -e '${pidFile}' ]; do sleep 0.05; done`],
    start,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
