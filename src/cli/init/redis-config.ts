import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { redisSettings } from '../../model/redis-words.ts';
import type { FoundRedis } from '../../settings/template.ts';

/** Where distributions keep the configuration of their Redis or Valkey. */
const usualFiles = ['/etc/redis/redis.conf', '/etc/redis.conf', '/etc/valkey/valkey.conf'];

/** How long a local server may take to answer, in milliseconds. */
const probeTimeoutMs = 500;

/** The first server that answers where one of these files says, on its plain port, its socket or its TLS port. */
export async function findRedis(files: readonly string[] = usualFiles): Promise<FoundRedis | undefined> {
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    const settings = redisSettings(text);
    const dir = settings.get('dir');
    const dataDir = dir?.startsWith('/') === true ? dir : undefined;
    const port = Number(settings.get('port') ?? 6379);
    if (await listens({ port })) return { at: { port }, dataDir };
    const socket = settings.get('unixsocket') ?? '';
    if (socket !== '' && (await listens({ socket }))) return { at: { socket }, dataDir };
    const tlsPort = Number(settings.get('tls-port') ?? 0);
    if (await listens({ port: tlsPort }))
      return {
        at: { port: tlsPort },
        tls: { cacert: settings.get('tls-ca-cert-file') || undefined },
        dataDir,
      };
  }
  return undefined;
}

/** Whether anything accepts connections there. Port 0 is none. */
export function listens(place: FoundRedis['at']): Promise<boolean> {
  if ('port' in place && place.port === 0) return Promise.resolve(false);
  return new Promise((done) => {
    const where = 'port' in place ? { host: '127.0.0.1', port: place.port } : { path: place.socket };
    const socket = connect({ ...where, timeout: probeTimeoutMs });
    const finish = (answer: boolean) => (): void => {
      socket.destroy();
      done(answer);
    };
    socket.once('connect', finish(true)).once('error', finish(false)).once('timeout', finish(false));
  });
}
