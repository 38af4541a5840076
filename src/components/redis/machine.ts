import { readFile } from 'node:fs/promises';
import { redisSettings } from '../../model/redis-words.ts';
import type { MachineSlot, PortProbe, Proposal } from '../../ports/kind.ts';

/** Where distributions keep the configuration of their Redis or Valkey. */
const usualFiles = ['/etc/redis/redis.conf', '/etc/redis.conf', '/etc/valkey/valkey.conf'];

const usualPort = 6379;

/** A Redis of this machine. */
interface FoundRedis {
  readonly at: { readonly port: number } | { readonly socket: string };
  readonly tls?: { readonly cacert: string | undefined };
  readonly dataDir: string | undefined;
}

export const machine: MachineSlot = { propose: (_env, answers) => lookForRedis(answers) };

/** At the address that one of these files says, or at the usual port. */
export async function lookForRedis(
  answers: PortProbe,
  files: readonly string[] = usualFiles,
): Promise<Proposal> {
  const [found, isUsual] = await Promise.all([findRedis(answers, files), answers({ port: usualPort })]);
  const redis = found ?? { at: { port: usualPort }, dataDir: undefined };
  return { isFound: found !== undefined || isUsual, lines: linesFor(redis) };
}

/** The first server that answers where one of these files says, on its plain port, its socket or its TLS port. */
async function findRedis(answers: PortProbe, files: readonly string[]): Promise<FoundRedis | undefined> {
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    const settings = redisSettings(text);
    const dir = settings.get('dir');
    const dataDir = dir?.startsWith('/') === true ? dir : undefined;
    const port = Number(settings.get('port') ?? usualPort);
    if (await answers({ port })) return { at: { port }, dataDir };
    const socket = settings.get('unixsocket') ?? '';
    if (socket !== '' && (await answers({ socket }))) return { at: { socket }, dataDir };
    const tlsPort = Number(settings.get('tls-port') ?? 0);
    if (await answers({ port: tlsPort })) {
      const cacert = settings.get('tls-ca-cert-file') || undefined;
      return { at: { port: tlsPort }, tls: { cacert }, dataDir };
    }
  }
  return undefined;
}

function linesFor({ at, tls, dataDir }: FoundRedis): readonly string[] {
  const quote = (text: string): string => JSON.stringify(text);
  return [
    'redis:',
    ...('port' in at ? ['  host: 127.0.0.1', `  port: ${at.port}`] : [`  socket: ${quote(at.socket)}`]),
    ...(tls === undefined ? [] : ['  tls: true']),
    ...(tls?.cacert === undefined ? [] : [`  cacert: ${quote(tls.cacert)}`]),
    ...(tls === undefined
      ? []
      : [
          '  # cert: FILE                         # with key: FILE, if it requires a certificate from clients',
        ]),
    '  # password_file: /etc/tars/redis-password',
    dataDir === undefined
      ? "  # data_dir: /var/lib/redis            # the server's `dir`; a restore needs it"
      : `  data_dir: ${quote(dataDir)} # a restore needs it`,
    '  # service: redis',
  ];
}
