import type { TlsSettings } from './tls.ts';
import type { ServerProof } from '../../../ports/server-proof.ts';
import type { ServerContainer } from '../../../ports/store-place.ts';

/** One PostgreSQL server as `tars.yaml` configures it. */
export interface PostgresOptions {
  /** The component's name, and the folder of its artifacts. */
  readonly name: string;
  readonly service: string | undefined;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** Without one, libpq's password file applies. */
  readonly password: string | undefined;
  /** Undefined: every database that is no template and accepts connections. */
  readonly databases: readonly string[] | undefined;
  readonly scratchDir: string;
  /** Where it says nothing, libpq's variables and files do. */
  readonly tls?: TlsSettings;
  /** Asked on every connection. */
  readonly proof?: ServerProof;
  /** Directory of pg_dump, pg_dumpall and pg_restore; found by {@link findClient} when absent. */
  readonly clientBinDir?: string;
  /** A local server's process, whose own directory holds a fitting client. */
  readonly serverPid?: number;
  /** The server's container: where programs run when this machine has none that fit. */
  readonly container?: ServerContainer;
  /** Programs run in there, and reach the server at `host` and `port` as seen from there. */
  readonly inside?: ServerContainer;
}

/** How a person finds the server: `127.0.0.1:5432`. */
export function addressOf({ host, port }: Pick<PostgresOptions, 'host' | 'port'>): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * What every connection starts with, ours and the programs', before its first statement: a database or role may be
 * set to read-only, to short timeouts or to another role. Only settings that every supported server knows.
 * Without a search_path: the programs set an empty one before anything else, and scripts of extensions that add
 * themselves to the database's path go on from the one a session started with (postgis_topology).
 */
export function startupSettings(more: Readonly<Record<string, string>> = {}): string {
  const settings = {
    role: 'none',
    default_transaction_read_only: 'off',
    statement_timeout: '0',
    lock_timeout: '0',
    idle_in_transaction_session_timeout: '0',
    ...more,
  };
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(' ');
}

/** Ours: a search_path may have functions and tables in the place of the server's own. */
export const startupOptions = startupSettings({ search_path: '' });
