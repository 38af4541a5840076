import type { ServerAddress, StorePlace } from '../ports/store-place.ts';
import type { ServerProof } from '../ports/server-proof.ts';

/** Undefined while it is unknown: no default address stands in for it, where another server may listen. */
export function addressFor(
  { host, port }: { readonly host?: string | undefined; readonly port?: number | undefined },
  { address }: StorePlace,
  defaultPort: number,
): ServerAddress | undefined {
  if (address === 'unknown') return undefined;
  if (host !== undefined) return { host, port: port ?? defaultPort };
  return address ?? { host: '127.0.0.1', port: port ?? defaultPort };
}

/** For options of adapters, which have no proof rather than an undefined one. */
export const proofOf = ({ proof }: StorePlace): { readonly proof?: ServerProof } =>
  proof === undefined ? {} : { proof };
