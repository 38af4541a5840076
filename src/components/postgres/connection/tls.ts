import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { ConfigurationError, hasErrno } from '../../../model/errors.ts';

/** How far a connection has to be encrypted, and whose certificates count: as libpq has it (manual, 34.19). */
export interface TlsSettings {
  readonly sslmode?: SslMode | undefined;
  /** Paths. `system` as the root certificate means those of this machine. */
  readonly sslrootcert?: string | undefined;
  readonly sslcert?: string | undefined;
  readonly sslkey?: string | undefined;
}

const modes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
type SslMode = (typeof modes)[number];

const variables = {
  sslmode: 'PGSSLMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
} as const;

type Environment = Readonly<Record<string, string | undefined>>;

/** The settings as variables for libpq's programs; what is not set comes from their own environment. */
export function tlsEnvironment(settings: TlsSettings | undefined): Record<string, string> {
  const names = Object.keys(variables) as (keyof TlsSettings)[];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = settings?.[name];
      return value === undefined ? [] : [[variables[name], value]];
    }),
  );
}

/** The ways to connect, tried in order until the server accepts one; `false` is without encryption. */
export type TlsAttempts = readonly (false | ConnectionOptions)[];

/**
 * What libpq would try with these settings, and with its own variables and files where they say nothing.
 * @throws ConfigurationError for an unknown mode, or a file that is missing
 */
export async function tlsAttempts(settings: TlsSettings | undefined, env: Environment): Promise<TlsAttempts> {
  const valueOf = (name: keyof TlsSettings): string | undefined => {
    const value = settings?.[name] ?? env[variables[name]];
    return value === '' ? undefined : value;
  };
  const mode = valueOf('sslmode') ?? 'prefer';
  if (mode === 'disable') return [false];
  const root = await rootCertificates(valueOf('sslrootcert'), mode);
  const [cert, key] = await Promise.all([
    certificateFile(valueOf('sslcert'), 'postgresql.crt'),
    certificateFile(valueOf('sslkey'), 'postgresql.key'),
  ]);
  const own = cert === undefined || key === undefined ? {} : { cert, key };
  const unverified: ConnectionOptions = { ...own, rejectUnauthorized: false };
  const verified: ConnectionOptions = { ...own, ...root, rejectUnauthorized: true };
  const anyName: ConnectionOptions = { ...verified, checkServerIdentity: () => undefined };
  switch (mode) {
    case 'allow':
      return [false, unverified];
    case 'prefer':
      return [unverified, false];
    case 'require':
      // With a root certificate, libpq checks it here as well.
      return [root === undefined ? unverified : anyName];
    case 'verify-ca':
      return [anyName];
    case 'verify-full':
      return [verified];
    default:
      throw new ConfigurationError(`There is no sslmode ${mode} for PostgreSQL`, {
        hint: `Use one of ${modes.join(', ')} in tars.yaml or PGSSLMODE.`,
      });
  }
}

/** Undefined: no certificate authority of anyone's choosing. */
async function rootCertificates(
  path: string | undefined,
  mode: string,
): Promise<{ ca?: Buffer } | undefined> {
  if (path === 'system') return {};
  const ca = await certificateFile(path, 'root.crt');
  if (ca !== undefined) return { ca };
  if (!mode.startsWith('verify')) return undefined;
  throw new ConfigurationError(
    `sslmode ${mode} needs the certificate of the authority that signed the server's certificate`,
    {
      hint: 'Set sslrootcert in tars.yaml (or PGSSLROOTCERT) to its file, or to system.',
    },
  );
}

/** The named file, which must be there, or the one libpq looks for. */
async function certificateFile(path: string | undefined, usual: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path ?? join(homedir(), '.postgresql', usual));
  } catch (error) {
    if (path === undefined && (hasErrno(error, 'ENOENT') || hasErrno(error, 'EACCES'))) return undefined;
    throw new ConfigurationError(`Cannot read the certificate file ${path ?? usual} for PostgreSQL`, {
      hint: 'Correct sslrootcert, sslcert or sslkey in tars.yaml, or the variables PGSSL… that name it.',
      cause: error,
    });
  }
}
