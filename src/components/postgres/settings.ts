import { z } from 'zod';
import type { SettingsSlot } from '../../ports/kind.ts';
import { commonSettings, passwordSettings, portSetting } from '../settings-parts.ts';

const schema = (local: (path: string) => string) =>
  z.strictObject({
    kind: z.literal('postgres'),
    host: z.string().optional().describe('Default: 127.0.0.1, or the address of the container of `service`.'),
    port: portSetting.optional().describe('Default: 5432; with `docker`, the port in the container.'),
    user: z.string().optional().describe('Default: postgres, or POSTGRES_USER of the container.'),
    databases: z.array(z.string()).optional().describe('Default: every database that accepts connections.'),
    client_bin_dir: z
      .string()
      .overwrite(local)
      .optional()
      .describe('The directory of pg_dump and pg_restore, if tars does not find them.'),
    sslmode: z
      .enum(['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'])
      .optional()
      .describe('As for psql. Default: PGSSLMODE, otherwise prefer.'),
    sslrootcert: z
      .string()
      .overwrite((path) => (path === 'system' ? path : local(path)))
      .optional()
      .describe(
        'A file with the certificate of the authority that signs the certificate of the server, or `system`. Default: PGSSLROOTCERT.',
      ),
    sslcert: z
      .string()
      .overwrite(local)
      .optional()
      .describe('The certificate to log in with. Default: PGSSLCERT.'),
    sslkey: z
      .string()
      .overwrite(local)
      .optional()
      .describe('The key of that certificate. Default: PGSSLKEY.'),
    ...passwordSettings(local),
    ...commonSettings,
  });

/** What `tars.yaml` says of one component of the kind. */
export type PostgresSettings = z.infer<ReturnType<typeof schema>>;

export const settings: SettingsSlot<PostgresSettings> = {
  schema,
  secrets: ({ password, password_file: passwordFile }) => ({ password, passwordFile }),
  // With a host, the port is the host's; without, the container's.
  forOtherProject: ({ host, port, ...rest }) => ({
    ...rest,
    host: undefined,
    port: host === undefined ? port : undefined,
  }),
};
