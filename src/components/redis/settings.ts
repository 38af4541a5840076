import { z } from 'zod';
import { ConfigurationError } from '../../model/errors.ts';
import type { SettingsSlot } from '../../ports/kind.ts';
import { commonSettings, passwordSettings, portSetting } from '../settings-parts.ts';

const schema = (local: (path: string) => string) =>
  z.strictObject({
    kind: z.literal('redis'),
    url: z
      .string()
      .optional()
      .describe('For example rediss://user@10.0.0.5:6380; replaces host, port, username, password and tls.'),
    host: z.string().optional().describe('Default: 127.0.0.1, or the address of the container of `service`.'),
    port: portSetting.optional().describe('Default: 6379; with `docker`, the port in the container.'),
    socket: z
      .string()
      .overwrite(local)
      .optional()
      .describe('A Unix socket, instead of host and port: `unixsocket` in redis.conf.'),
    tls: z
      .boolean()
      .optional()
      .describe('As for redis-cli. Default: true if one of the settings below is set, otherwise false.'),
    cacert: z
      .string()
      .overwrite(local)
      .optional()
      .describe(
        'A file with the certificate of the authority that signs the certificate of the server. Default: the authorities of this machine.',
      ),
    cert: z.string().overwrite(local).optional().describe('The certificate to log in with.'),
    key: z.string().overwrite(local).optional().describe('The key of that certificate.'),
    sni: z
      .string()
      .optional()
      .describe(
        'The name in the certificate of the server. Default: any name with `cacert`, otherwise `host`.',
      ),
    insecure: z.boolean().optional().describe('Accept any certificate of the server.'),
    username: z.string().optional(),
    data_dir: z.string().overwrite(local).optional().describe("The server's `dir`; a restore needs it."),
    ...passwordSettings(local),
    ...commonSettings,
  });

/** What `tars.yaml` says of one component of the kind. */
export type RedisSettings = z.infer<ReturnType<typeof schema>>;

export const settings: SettingsSlot<RedisSettings> = {
  schema,
  complete: (redis, { label }) => spelledOut(redis, label),
  secrets: ({ password, password_file: passwordFile }) => ({ password, passwordFile }),
  // With a host, the port is the host's; without, the container's.
  forOtherProject: ({ host, port, ...rest }) => ({
    ...rest,
    host: undefined,
    port: host === undefined ? port : undefined,
    ...{ data_dir: undefined, socket: undefined },
  }),
};

const tlsSettings = ['cacert', 'cert', 'key', 'sni', 'insecure'] as const;

/** How its connection is encrypted; undefined: not at all. */
export function redisTls(
  settings: RedisSettings,
): Pick<RedisSettings, (typeof tlsSettings)[number]> | undefined {
  const { tls, cacert, cert, key, sni, insecure } = settings;
  const isWanted = tls ?? tlsSettings.some((name) => settings[name] !== undefined);
  return isWanted ? { cacert, cert, key, sni, insecure } : undefined;
}

/** Words of redis-cli that lead to this server; no password. */
export function redisCliWords(settings: RedisSettings): readonly string[] {
  const { host, port, socket, username, cacert, cert, key, sni, insecure } = settings;
  const given = Object.entries({ '--cacert': cacert, '--cert': cert, '--key': key, '--sni': sni });
  const place = Object.entries(
    socket === undefined ? { '-h': host, '-p': port?.toString() } : { '-s': socket },
  );
  const options = (entries: readonly (readonly [string, string | undefined])[]): string[] =>
    entries.flatMap(([name, value]) => (value === undefined ? [] : [name, value]));
  return [
    ...options(place),
    ...(redisTls(settings) === undefined ? [] : ['--tls', ...options(given)]),
    ...(insecure === true ? ['--insecure'] : []),
    ...options([['--user', username]]),
  ];
}

/**
 * The settings with what `url` stands for in its place.
 * @param where for errors, such as `tars.yaml: component redis`
 * @throws ConfigurationError when something is said twice, or half. Never with the address, which may hold a password
 */
export function spelledOut(settings: RedisSettings, where: string): RedisSettings {
  const { url, ...rest } = settings;
  const told: RedisSettings = url === undefined ? rest : { ...rest, ...partsOf(url, where) };
  for (const [one, excluded] of [
    ['url', ['host', 'port', 'socket', 'username', 'tls']],
    ['socket', ['host', 'port', 'tls', ...tlsSettings]],
  ] as const) {
    const other = excluded.find((name) => settings[one] !== undefined && settings[name] !== undefined);
    if (other !== undefined)
      throw new ConfigurationError(`${where} has both ${one} and ${other}`, { hint: 'Keep one of them.' });
  }
  const [there, missing] = told.cert === undefined ? (['key', 'cert'] as const) : (['cert', 'key'] as const);
  if (told[there] !== undefined && told[missing] === undefined)
    throw new ConfigurationError(`${where} has ${there} without ${missing}`, { hint: 'Give both of them.' });
  if (url !== undefined && settings.password !== undefined && told.password !== settings.password)
    throw new ConfigurationError(`${where} has both a password and one in url`, {
      hint: 'Keep one of them.',
    });
  return told;
}

/** https://www.iana.org/assignments/uri-schemes/prov/redis; the number of a database means nothing here. */
function partsOf(text: string, where: string): Partial<RedisSettings> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['redis:', 'rediss:'].includes(url.protocol) || url.hostname === '') {
    throw new ConfigurationError(`${where}: url must begin with redis:// or rediss:// and name a host`, {
      hint: 'For example rediss://user@10.0.0.5:6380; write @ : / and % in a password as %40 %3A %2F %25.',
    });
  }
  const { hostname, port, username, password } = url;
  return {
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    ...(port === '' ? {} : { port: Number(port) }),
    ...(username === '' ? {} : { username: decoded(username, where) }),
    ...(password === '' ? {} : { password: decoded(password, where) }),
    ...(url.protocol === 'rediss:' ? { tls: true } : {}),
  };
}

function decoded(text: string, where: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new ConfigurationError(`${where}: url has a % that does not begin an escape`, {
      hint: 'Write % as %25.',
    });
  }
}
