import { readFile } from 'node:fs/promises';
import { connect, type TLSSocket } from 'node:tls';
import { ConfigurationError } from '../../../model/errors.ts';

/** How a connection is encrypted, and whose certificates count: as redis-cli has it (`redis-cli --help`). */
export interface RedisTls {
  /** Paths. Without `cacert` the authorities of this machine count. */
  readonly cacert?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  /** The name that the server is asked for, and that its certificate must have. */
  readonly sni?: string | undefined;
  /** Any certificate is accepted. */
  readonly insecure?: boolean | undefined;
}

/**
 * Begins a handshake; `secureConnect` ends it.
 * @throws ConfigurationError when a certificate file cannot be read
 */
export async function connectTls(host: string, port: number, tls: RedisTls): Promise<TLSSocket> {
  const { cacert, cert, key, sni, insecure } = tls;
  // As redis-cli: an authority of one's own vouches for the server, and its certificates often carry no name. Public
  // authorities sign for everyone, so that the name counts.
  const checksName = sni !== undefined || cacert === undefined;
  return connect({
    host,
    port,
    ...(cacert === undefined ? {} : { ca: await certificateFile('cacert', cacert) }),
    ...(cert === undefined ? {} : { cert: await certificateFile('cert', cert) }),
    ...(key === undefined ? {} : { key: await certificateFile('key', key) }),
    ...(sni === undefined ? {} : { servername: sni }),
    ...(checksName ? {} : { checkServerIdentity: () => undefined }),
    rejectUnauthorized: insecure !== true,
  });
}

async function certificateFile(setting: keyof RedisTls, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new ConfigurationError(`Cannot read the certificate file ${path} for Redis`, {
      hint: `Correct ${setting} of this component in tars.yaml.`,
      cause: error,
    });
  }
}
