import { argumentOf } from '../../model/container-arguments.ts';
import type { ContainerProgram } from '../../model/container-programs.ts';
import type {
  ContainerSketch,
  ContainerSlot,
  Credentials,
  PasswordQuestion,
  PasswordSource,
} from '../../ports/kind.ts';
import type { ProgramCall } from '../../ports/programs.ts';
import { redisTls } from './settings.ts';
import type { RedisSettings } from './settings.ts';

const port = 6379;

export const container: ContainerSlot<RedisSettings> = {
  recognition: {
    title: 'Redis',
    labels: ['redis', 'valkey'],
    images: /^(redis|valkey|redis-stack(-server)?|valkey-bundle)$/,
    port,
    isPortTelling: true,
    answers: async (address, ask) => /^(\+PONG|-NOAUTH|-DENIED)/.test(await ask.say(address, 'PING\r\n')),
    isAnswerTelling: false,
    programRole,
    toldPort: (sketch) => argumentOf(sketch, isTlsOnly(sketch) ? '--tls-port' : '--port'),
    isTlsOnly,
    password: passwordOf,
    credentials,
    expectedDirectory: (sketch) => argumentOf(sketch, '--dir') ?? '/data',
    riskIfUnmounted: 'AT RISK',
    proposal: ({ tls }) =>
      tls
        ? [
            'tls: true',
            '# cacert: FILE # of its authority; cert: and key: if it requires a certificate from clients',
          ]
        : [],
  },
  access: {
    through: 'both',
    // It is restored into its files.
    unmounted: 'capture',
    givenAddress: ({ socket, host }) => socket ?? host,
    givenPort: (settings) => settings.port,
    identityCall: runIdCall,
  },
};

/** A sentinel watches over servers and keeps no data. */
function programRole({ name, args }: ContainerProgram): 'server' | 'client' | undefined {
  if (/^(redis|valkey|keydb)-(cli|benchmark|sentinel|check-(aof|rdb))$/.test(name)) return 'client';
  if (!/^(redis|valkey|keydb|redis-stack)-server$/.test(name)) return undefined;
  return args.includes('--sentinel') ? 'client' : 'server';
}

/** It has no port without TLS. */
function isTlsOnly(sketch: ContainerSketch): boolean {
  return argumentOf(sketch, '--port') === '0' && argumentOf(sketch, '--tls-port') !== undefined;
}

function credentials(sketch: ContainerSketch): Credentials {
  return { password: argumentOf(sketch, '--requirepass') ?? sketch.environment['REDIS_PASSWORD'] };
}

async function passwordOf(sketch: ContainerSketch, ask: PasswordQuestion): Promise<PasswordSource> {
  if (credentials(sketch).password) return 'known';
  const answer = await ask('PING\r\n');
  if (answer === '') return 'unknown';
  // A server that asks for one says so before anything else.
  return answer.startsWith('-NOAUTH') ? 'needed' : 'none';
}

/** Prints `INFO server`. The password is not on the command line. */
function runIdCall(
  settings: RedisSettings,
  sketch: ContainerSketch,
  configured: string | undefined,
): ProgramCall {
  // With a host of its own in tars.yaml, the port there is that host's.
  const own = settings.host === undefined ? settings.port : undefined;
  const told = (name: string): string | undefined => argumentOf(sketch, `--${name}`);
  const tls = redisTls(settings) !== undefined;
  const number = own ?? told(tls ? 'tls-port' : 'port') ?? port;
  // In its own container nobody else can answer; a certificate it wants of clients, its own will do for.
  const certificate = [
    ['--cert', told('tls-cert-file')],
    ['--key', told('tls-key-file')],
  ].flatMap(([name = '', value]) => (value === undefined ? [] : [name, value]));
  const inside = settings.socket === undefined ? undefined : told('unixsocket');
  const { username } = settings;
  const password = configured ?? credentials(sketch).password;
  return {
    path: 'redis-cli',
    args: [
      ...(inside === undefined ? ['-p', String(number)] : ['-s', inside]),
      ...(tls ? ['--tls', '--insecure', ...certificate] : []),
      ...(username === undefined ? [] : ['--user', username]),
      ...['INFO', 'server'],
    ],
    environment: password === undefined ? {} : { REDISCLI_AUTH: password },
  };
}
