import { abortError } from '../../../model/abort.ts';
import { connectionFailure } from '../../../model/connection-failure.ts';
import { formatMs } from '../../../model/duration.ts';
import { ConfigurationError, ServiceUnavailableError, TarsError } from '../../../model/errors.ts';
import { hideSecrets } from '../../../model/hide-secrets.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { ServerProof } from '../../../ports/server-proof.ts';

/** Where a Chroma server listens and what its proxy or itself wants to see in every request. */
export interface ChromaEndpoint {
  /** `http(s)://host:port`, optionally with a path prefix. A user and password in it become a Basic header. */
  readonly url: string;
  /** Sent with every request, such as `Authorization` or `X-Chroma-Token`; never logged or put into errors. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Asked before the server is. */
  readonly proof?: ServerProof;
}

/** How one request is made, and how patiently. */
interface RequestOptions {
  /** JSON text. */
  readonly body?: string;
  /** The request may be sent again after a transient failure: carrying it out twice is as good as once. */
  readonly idempotent: boolean;
  /** Attempts for an idempotent request; 5 by default. */
  readonly attempts?: number;
  readonly timeoutMs?: number;
  /** @throws ResponseTooLargeError when the answer is longer */
  readonly maxResponseBytes?: number;
}

/** The server answered, and not with success. */
export class ChromaResponseError extends TarsError {
  readonly status: number;

  constructor(status: number, message: string) {
    const unauthorised = status === 401 || status === 403;
    const code = unauthorised ? 'access-denied' : status >= 500 ? 'service-unavailable' : 'internal';
    const hint = unauthorised
      ? 'Set the header that the server expects under headers in tars.yaml.'
      : undefined;
    super(code, message, { ...(hint === undefined ? {} : { hint }), context: { status } });
    this.status = status;
  }
}

/** An answer is longer than the caller wants to hold in memory: ask for less. */
export class ResponseTooLargeError extends TarsError {
  constructor(what: string, maxResponseBytes: number) {
    super('internal', `The answer to ${what} is longer than ${maxResponseBytes} bytes`);
  }
}

const defaultTimeoutMs = 60_000;
const defaultAttempts = 5;
const firstBackoffMs = 100;
const defaultMaxResponseBytes = 256 << 20;
const errorTextChars = 300;
const transientStatuses = new Set([429, 500, 502, 503, 504]);
const transientErrnos = new Set([
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** JSON over HTTP to one Chroma server: timeouts, retries, bounded answers, errors without secrets. */
export class ChromaTransport {
  /** The server's address without credentials, for people. */
  readonly location: string;
  readonly #headers: Headers;
  readonly #secrets: readonly string[];

  /** @throws ConfigurationError when the URL or a header is malformed */
  constructor(endpoint: ChromaEndpoint) {
    const url = parseUrl(endpoint.url);
    const secrets = Object.values(endpoint.headers ?? {});
    this.#headers = buildHeaders(endpoint.headers ?? {});
    if (url.username !== '' || url.password !== '') {
      const userInfo = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
      const basic = Buffer.from(userInfo).toString('base64');
      if (!this.#headers.has('authorization')) this.#headers.set('authorization', `Basic ${basic}`);
      secrets.push(basic, decodeURIComponent(url.password), url.password);
    }
    this.location = `${url.origin}${url.pathname.replace(/\/+$/, '').replace(/\/api\/v[12]$/, '')}`;
    this.#headers.set('accept', 'application/json');
    // Of `Bearer x` the server may repeat the second word alone.
    this.#secrets = secrets.flatMap((value) => [value, ...value.split(/\s+/)]);
  }

  /**
   * The body of a successful answer. `path` starts with `/api/`.
   * @throws ServiceUnavailableError when nothing answers
   * @throws ChromaResponseError when the answer is not a success (after retries of what may be transient)
   * @throws TarsError `timeout`
   */
  async request(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    options: RequestOptions,
    ctx: Pick<OperationContext, 'signal' | 'clock'>,
  ): Promise<string> {
    const attempts = options.idempotent ? (options.attempts ?? defaultAttempts) : 1;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(method, path, options, ctx.signal);
      } catch (error) {
        if (attempt >= attempts || !isTransient(error))
          throw this.#describe(error, method, path, options, ctx);
      }
      await ctx.clock.sleep(firstBackoffMs * 2 ** (attempt - 1), ctx.signal);
    }
  }

  async #once(method: string, path: string, options: RequestOptions, signal: AbortSignal): Promise<string> {
    const headers = new Headers(this.#headers);
    if (options.body !== undefined) headers.set('content-type', 'application/json');
    const response = await fetch(`${this.location}${path}`, {
      method,
      headers,
      ...(options.body === undefined ? {} : { body: options.body }),
      // A followed redirect would hand custom headers to another host.
      redirect: 'manual',
      signal: AbortSignal.any([signal, AbortSignal.timeout(options.timeoutMs ?? defaultTimeoutMs)]),
    });
    const text = await readText(
      response,
      `${method} ${path}`,
      options.maxResponseBytes ?? defaultMaxResponseBytes,
    );
    if (response.ok) return text;
    const detail = this.redact(errorText(text, response));
    throw new ChromaResponseError(
      response.status,
      `Chroma at ${this.location} answered ${method} ${path} with ${response.status}: ${detail}`,
    );
  }

  /** `text` without any header value or password. */
  redact(text: string): string {
    return hideSecrets(text, this.#secrets);
  }

  #describe(
    error: unknown,
    method: string,
    path: string,
    options: RequestOptions,
    ctx: Pick<OperationContext, 'signal'>,
  ): TarsError {
    if (error instanceof TarsError) return error;
    if (ctx.signal.aborted) return abortError(ctx.signal, error);
    if (error instanceof Error && error.name === 'TimeoutError') {
      const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
      return new TarsError(
        'timeout',
        `Chroma at ${this.location} did not answer ${method} ${path} within ${formatMs(timeoutMs)}`,
        { hint: 'Check the load of the server, then run this again.' },
      );
    }
    const reason = connectionFailure(error);
    return new ServiceUnavailableError(`Chroma at ${this.location} does not answer: ${this.redact(reason)}`, {
      hint: 'Start the server, or correct its url in tars.yaml.',
    });
  }
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    // The text may hold a password, so it is not repeated.
    throw new ConfigurationError('The url of Chroma is not an http or https URL', {
      hint: 'Write it as http://host:8000.',
    });
  }
  return url;
}

function buildHeaders(values: Readonly<Record<string, string>>): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(values)) {
    try {
      headers.set(name, value);
    } catch {
      // The platform's own error repeats the value.
      throw new ConfigurationError(`The header ${JSON.stringify(name)} for Chroma is not valid in HTTP`, {
        hint: 'Remove line breaks and non-Latin characters from its name and value.',
      });
    }
  }
  return headers;
}

async function readText(response: Response, what: string, maxResponseBytes: number): Promise<string> {
  if (response.body === null) return '';
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxResponseBytes) throw new ResponseTooLargeError(what, maxResponseBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes).toString('utf8');
}

/** Chroma answers `{"error": kind, "message": text}`; a proxy may answer anything. */
function errorText(text: string, response: Response): string {
  if (response.status >= 300 && response.status < 400) return 'a redirect, which is not followed';
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null) {
      const { error, message, detail } = parsed as Record<string, unknown>;
      const said = message ?? detail ?? error;
      if (typeof said === 'string' && said !== '') return said.slice(0, errorTextChars);
    }
  } catch {
    // Not JSON: the text itself says what there is to say.
  }
  return text.trim().slice(0, errorTextChars) || response.statusText;
}

function errnoOf(error: unknown): string | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    const { code } = at as NodeJS.ErrnoException;
    if (typeof code === 'string') return code;
  }
  return undefined;
}

function isTransient(error: unknown): boolean {
  if (error instanceof ChromaResponseError) return transientStatuses.has(error.status);
  if (error instanceof TarsError) return false;
  return transientErrnos.has(errnoOf(error) ?? '');
}
