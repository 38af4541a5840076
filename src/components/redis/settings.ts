import { z } from 'zod';
import { spelledOut } from './address.ts';
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
