import { isSystemError, messageOf } from './errors.ts';

/** What each code means, of connect(2), getaddrinfo(3), TLS and HTTP. */
const reasons: readonly (readonly [RegExp, string])[] = [
  [/^ECONNREFUSED$/, 'nothing listens there'],
  [/^(ENOTFOUND|EAI_NONAME|EAI_NODATA)$/, 'its name is not known to DNS or /etc/hosts'],
  [/^EAI_/, 'its name cannot be resolved at the moment'],
  [/^(ETIMEDOUT|UND_ERR_\w*TIMEOUT)$/, 'it did not answer in time: check firewalls and the address'],
  [/^(EHOSTUNREACH|ENETUNREACH|EHOSTDOWN|ENETDOWN)$/, 'the network cannot reach it'],
  [/^(ECONNRESET|EPIPE|UND_ERR_SOCKET)$/, 'it closed the connection'],
  [/^(ENOENT)$/, 'the socket does not exist'],
  [/^(EACCES|EPERM)$/, 'this user may not connect'],
  [/^ERR_SSL_.*ALERT_.*(CERT|UNKNOWN_CA)/, 'it rejects the certificate of this client, or requires one'],
  [/CERT|^UNABLE_TO_/, 'its TLS certificate is not accepted'],
  [/^(ERR_SSL_|ERR_TLS_|EPROTO$)/, 'TLS failed: check that it uses TLS on this port'],
];

/** Why something did not answer, in words and with the code to search for. Never what was sent. */
export function connectionFailure(error: unknown): string {
  // fetch says what failed in its cause; an attempt at several addresses says it in each.
  const inner = error instanceof Error && !isSystemError(error) ? error.cause : undefined;
  if (inner instanceof Error) return connectionFailure(inner);
  if (error instanceof Error && (error.name === 'TimeoutError' || error.message === 'timeout expired'))
    return 'no answer in time: it is overloaded, behind a firewall, or not at this address';
  const code = isSystemError(error) ? (error.code ?? '') : '';
  const reason = reasons.find(([pattern]) => pattern.test(code))?.[1];
  if (reason !== undefined) return `${reason} (${code})`;
  return messageOf(error) || code || 'the reason is unknown';
}
