import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { throwIfAborted } from '../../../model/abort.ts';
import { connectionFailure } from '../../../model/connection-failure.ts';
import {
  InterruptedError,
  isSystemError,
  ServiceUnavailableError,
  TarsError,
} from '../../../model/errors.ts';
import type { Bytes } from '../../../ports/artifacts.ts';
import type { ServerClaim, ServerProof } from '../../../ports/server-proof.ts';
import { connectTls, type RedisTls } from './tls.ts';

/** Where a server listens and who we are there. */
export interface RedisAddress {
  /** Undefined while its service does not run: then no address is its own. */
  readonly host: string | undefined;
  readonly port: number;
  /** The path of a Unix socket, in place of host and port. */
  readonly socket?: string | undefined;
  /** Undefined: without encryption. */
  readonly tls?: RedisTls | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Asked on every connection. */
  readonly proof?: ServerProof;
}

/** How a person finds the server: `127.0.0.1:6379`, or the path of its socket. */
export const addressOf = ({ host, port, socket }: RedisAddress): string => socket ?? `${host ?? ''}:${port}`;

/** A reply of RESP2; an error of the server is a {@link RedisReplyError} instead. */
type RedisReply = string | number | null | readonly RedisReply[];

/** An error the server replied with, such as `NOPERM this user has no permissions…`. */
export class RedisReplyError extends Error {
  /** The first word, such as `NOAUTH`. */
  readonly prefix: string;

  constructor(message: string) {
    super(message);
    this.prefix = /^[A-Z]+/.exec(message)?.[0] ?? 'ERR';
  }
}

const connectTimeoutMs = 10_000;
const replyTimeoutMs = 60_000;
const lineLimitBytes = 64 << 10;
const eofMarkBytes = 40;
const notRedis = 'it does not speak the Redis protocol';
const tlsHint =
  'Set tls: true for this component in tars.yaml, and cacert if you have a certificate authority of your own.';
const certificateHints =
  'In tars.yaml, set cacert to the certificate of your own authority, sni to the name in the certificate of the ' +
  'server, and cert and key to the certificate that the server requires of its clients.';

/** RFC 8446, section 5.1: what a server that expected a handshake answers to anything else. */
const isTlsAlert = (bytes: Uint8Array): boolean => bytes[0] === 0x15 && bytes[1] === 0x03;

/**
 * One connection that speaks RESP2, one command at a time, and can then turn into a replication link
 * (https://redis.io/docs/latest/operate/oss_and_stack/management/replication/; `src/replication.c`). An ordinary
 * client library cannot do the latter.
 */
export class RedisConnection implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #where: string;
  #buffer: Buffer = Buffer.alloc(0);

  private constructor(socket: Socket, where: string) {
    this.#socket = socket;
    this.#where = where;
    this.#chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /**
   * Connects and authenticates.
   * @throws ServiceUnavailableError when nothing answers there
   * @throws TarsError `access-denied` when the password is missing or wrong
   */
  static async open(address: RedisAddress, signal: AbortSignal): Promise<RedisConnection> {
    const where = `Redis at ${addressOf(address)}`;
    const socket = await dial(address);
    const timeout = AbortSignal.timeout(connectTimeoutMs);
    // Errors reach whoever reads next; without a listener they would end the process.
    socket.on('error', () => undefined);
    const soon = AbortSignal.any([signal, timeout]);
    try {
      await once(socket, 'connect', { signal: soon });
      if (address.tls !== undefined) await shakeHands(socket, where, soon);
      const connection = new RedisConnection(socket, where);
      await connection.#authenticate(address, signal).catch(async (error: unknown) => {
        throw (await wantsTls(error, address, soon)) ? speaksTls(where) : error;
      });
      await address.proof?.require(await connection.#claim(signal), signal);
      return connection;
    } catch (cause) {
      socket.destroy();
      throwIfAborted(signal, cause);
      if (cause instanceof TarsError) throw cause;
      const reason = timeout.aborted
        ? `no connection within ${connectTimeoutMs / 1000} s: check firewalls and the address`
        : connectionFailure(cause);
      const setting = address.socket === undefined ? 'its host and port' : 'its socket';
      throw new ServiceUnavailableError(`${where} does not answer: ${reason}`, {
        hint: `Start it, or correct ${setting} in tars.yaml.`,
        cause,
      });
    }
  }

  /**
   * Sends one command and waits for its reply.
   * @throws RedisReplyError when the server refuses it
   * @throws ServiceUnavailableError when the connection breaks
   */
  async command(args: readonly string[], signal: AbortSignal): Promise<RedisReply> {
    this.#send(args);
    return this.#abortable(signal, replyTimeoutMs, () => this.#reply());
  }

  /** A command whose reply is text. */
  async text(args: readonly string[], signal: AbortSignal): Promise<string> {
    const reply = await this.command(args, signal);
    if (typeof reply !== 'string') throw this.#broken(`its reply to ${args[0] ?? ''} is not text`);
    return reply;
  }

  /**
   * Asks to become a replica from scratch, and returns the replication offset at which the server fixed the state it
   * will send. The server replies when it has forked and not before (`replicationSetupSlaveForFullResync`); until
   * then it may send empty lines.
   */
  async fullResync(signal: AbortSignal): Promise<bigint> {
    this.#send(['PSYNC', '?', '-1']);
    return this.#abortable(signal, undefined, async () => {
      const line = await this.#lineAfterKeepAlives();
      if (line.startsWith('-')) throw new RedisReplyError(line.slice(1));
      const offset = /^\+FULLRESYNC [0-9a-f]{40} (-?\d+)$/.exec(line)?.[1];
      if (offset === undefined) throw this.#broken('it did not accept the full resynchronisation');
      return BigInt(offset);
    });
  }

  /**
   * The RDB that follows a full resynchronisation, and its size when the server announces it (`$<size>`; diskless
   * replication ends it with a mark instead, `$EOF:<mark>`). Read it at full speed: the server waits for us.
   */
  async receiveRdb(signal: AbortSignal): Promise<{ sizeBytes: number | undefined; bytes: Bytes }> {
    const line = await this.#abortable(signal, undefined, () => this.#lineAfterKeepAlives());
    if (line.startsWith('-')) throw new RedisReplyError(line.slice(1));
    const mark = /^\$EOF:(.{40})$/.exec(line)?.[1];
    if (mark !== undefined)
      return { sizeBytes: undefined, bytes: this.#until(Buffer.from(mark, 'latin1'), signal) };
    const size = /^\$(\d+)$/.exec(line)?.[1];
    if (size === undefined) throw this.#broken('it sent no RDB');
    return { sizeBytes: Number(size), bytes: this.#exactly(Number(size), signal) };
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    return Promise.resolve();
  }

  async #authenticate({ username, password }: RedisAddress, signal: AbortSignal): Promise<void> {
    try {
      if (password !== undefined) {
        await this.command(['AUTH', ...(username === undefined ? [] : [username]), password], signal);
      }
      await this.command(['PING'], signal);
    } catch (error) {
      if (
        error instanceof RedisReplyError &&
        ['NOAUTH', 'WRONGPASS', 'DENIED', 'ERR'].includes(error.prefix)
      ) {
        throw this.#denied(error, password !== undefined);
      }
      // A server that loads or cannot save answers too; that is for `ready` to judge.
      if (!(error instanceof RedisReplyError)) throw error;
    }
  }

  /** What the server says of itself, as far as it knows the question and this user may ask. */
  async #claim(signal: AbortSignal): Promise<ServerClaim> {
    const told = async (args: readonly string[], pattern: RegExp): Promise<string | undefined> => {
      try {
        const reply = await this.command(args, signal);
        return typeof reply === 'string' ? pattern.exec(reply)?.[1] : undefined;
      } catch (error) {
        if (error instanceof RedisReplyError) return undefined;
        throw error;
      }
    };
    return {
      // Since 6.2.
      address: await told(['CLIENT', 'INFO'], /\bladdr=\[?([0-9a-f.:]+?)\]?:\d+(?:\s|$)/i),
      runId: await told(['INFO', 'server'], /^run_id:(\w+)/m),
    };
  }

  #denied(error: RedisReplyError, hadPassword: boolean): TarsError {
    const message = hadPassword ? 'refuses the password or user name' : 'requires a password';
    return new TarsError('access-denied', `${this.#where} ${message}`, {
      hint: 'Correct password (or password_file) and username of this component in tars.yaml.',
      context: { reply: error.prefix },
    });
  }

  #send(args: readonly string[]): void {
    const parts = args.map((arg) => `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`);
    this.#socket.write(`*${args.length}\r\n${parts.join('')}`);
  }

  async #reply(): Promise<RedisReply> {
    const line = await this.#line();
    const rest = line.slice(1);
    switch (line.charAt(0)) {
      case '+':
        return rest;
      case '-':
        throw new RedisReplyError(rest);
      case ':':
        return Number(rest);
      case '$':
        return rest === '-1' ? null : this.#bulk(Number(rest));
      case '*':
        return rest === '-1' ? null : this.#array(Number(rest));
      default:
        throw this.#broken(notRedis);
    }
  }

  async #bulk(sizeBytes: number): Promise<string> {
    while (this.#buffer.length < sizeBytes + 2) await this.#more();
    const text = this.#buffer.toString('utf8', 0, sizeBytes);
    this.#buffer = this.#buffer.subarray(sizeBytes + 2);
    return text;
  }

  async #array(length: number): Promise<RedisReply[]> {
    const items: RedisReply[] = [];
    for (let i = 0; i < length; i++) items.push(await this.#reply());
    return items;
  }

  async #lineAfterKeepAlives(): Promise<string> {
    for (;;) {
      const line = await this.#line();
      if (line !== '') return line;
    }
  }

  /** Up to the next line feed; the master's keep-alives have no carriage return. */
  async #line(): Promise<string> {
    for (;;) {
      const end = this.#buffer.indexOf(10);
      if (end >= 0) {
        const line = this.#buffer.toString('latin1', 0, end).replace(/\r$/, '');
        this.#buffer = this.#buffer.subarray(end + 1);
        return line;
      }
      if (isTlsAlert(this.#buffer)) throw speaksTls(this.#where);
      if (this.#buffer.length > lineLimitBytes) throw this.#broken(notRedis);
      await this.#more();
    }
  }

  async #more(): Promise<void> {
    const next = await this.#chunk();
    this.#buffer = this.#buffer.length === 0 ? next : Buffer.concat([this.#buffer, next]);
  }

  async #chunk(): Promise<Buffer> {
    const next = await this.#chunks.next();
    if (next.done === true) throw this.#broken('it closed the connection');
    return next.value;
  }

  async *#exactly(sizeBytes: number, signal: AbortSignal): Bytes {
    let left = sizeBytes;
    while (left > 0) {
      const next = await this.#take(signal);
      const piece = next.subarray(0, left);
      left -= piece.length;
      yield piece;
    }
  }

  async *#until(mark: Buffer, signal: AbortSignal): Bytes {
    let held: Buffer = Buffer.alloc(0);
    for (;;) {
      const next = await this.#take(signal);
      held = held.length === 0 ? next : Buffer.concat([held, next]);
      const bodyBytes = held.length - eofMarkBytes;
      if (bodyBytes < 0) continue;
      if (bodyBytes > 0) yield held.subarray(0, bodyBytes);
      held = held.subarray(bodyBytes);
      if (held.equals(mark)) return;
    }
  }

  /** What is buffered, or else the next chunk. */
  async #take(signal: AbortSignal): Promise<Buffer> {
    if (this.#buffer.length === 0) return this.#abortable(signal, replyTimeoutMs, () => this.#chunk());
    const buffered = this.#buffer;
    this.#buffer = Buffer.alloc(0);
    return buffered;
  }

  /** Ends the connection when `signal` aborts or `timeoutMs` pass without a byte, so that the pending read fails. */
  async #abortable<T>(
    signal: AbortSignal,
    timeoutMs: number | undefined,
    read: () => Promise<T>,
  ): Promise<T> {
    const interrupt = (): void => {
      this.#socket.destroy(new InterruptedError());
    };
    const onSilence = (): void => {
      this.#socket.destroy(this.#broken(`it sent nothing for ${timeoutMs ?? 0} ms`));
    };
    if (signal.aborted) interrupt();
    signal.addEventListener('abort', interrupt, { once: true });
    this.#socket.setTimeout(timeoutMs ?? 0, onSilence);
    try {
      return await read();
    } catch (cause) {
      if (cause instanceof RedisReplyError || cause instanceof TarsError) throw cause;
      throw this.#broken(connectionFailure(cause), cause);
    } finally {
      signal.removeEventListener('abort', interrupt);
      this.#socket.setTimeout(0);
      this.#socket.off('timeout', onSilence);
    }
  }

  #broken(what: string, cause?: unknown): TarsError {
    // With TLS 1.3 a server judges the client's certificate when the client has ended the handshake.
    if (isCertificateFailure(cause)) return tlsFailure(this.#where, cause);
    return new ServiceUnavailableError(`${this.#where} failed: ${what}`, {
      hint: 'Read the log of the server.',
      cause,
    });
  }
}

/** @throws ServiceUnavailableError where no address is known, as the service does not run */
async function dial({ host, port, socket, tls }: RedisAddress): Promise<Socket> {
  if (socket !== undefined) return connect({ path: socket });
  if (host === undefined) throw new ServiceUnavailableError('Redis is not running', { hint: 'Start it.' });
  const connection = tls === undefined ? connect({ host, port }) : await connectTls(host, port, tls);
  return connection.setNoDelay(true);
}

/** A server that speaks TLS closes the connection at our first word, often before its alert has arrived. */
async function wantsTls(
  error: unknown,
  { host, port, socket, tls }: RedisAddress,
  signal: AbortSignal,
): Promise<boolean> {
  if (!(error instanceof ServiceUnavailableError) || host === undefined) return false;
  if (socket !== undefined || tls !== undefined) return false;
  const trial = await connectTls(host, port, { insecure: true });
  trial.on('error', () => undefined);
  try {
    await once(trial, 'secureConnect', { signal });
    return true;
  } catch {
    return false;
  } finally {
    trial.destroy();
  }
}

const speaksTls = (where: string): TarsError =>
  new TarsError('access-denied', `${where} accepts only TLS, and tars connected without it`, {
    hint: tlsHint,
  });

async function shakeHands(socket: Socket, where: string, signal: AbortSignal): Promise<void> {
  try {
    await once(socket, 'secureConnect', { signal });
  } catch (cause) {
    throw tlsFailure(where, cause);
  }
}

/** No `service-unavailable`: something runs there, and a restore must not take it for a server that is stopped. */
function tlsFailure(where: string, cause: unknown): TarsError {
  const silent = cause instanceof Error && cause.name === 'AbortError';
  const reason = silent
    ? 'no TLS handshake in time: check that it uses TLS on this port'
    : connectionFailure(cause);
  return new TarsError('access-denied', `No TLS connection to ${where}: ${reason}`, {
    hint: isCertificateFailure(cause)
      ? certificateHints
      : 'If the server does not use TLS on this port, remove tls (or rediss) from this component in tars.yaml, or correct the port.',
    cause,
  });
}

/** Whose certificate counts is what it failed over. */
const isCertificateFailure = (cause: unknown): boolean =>
  isSystemError(cause) && /CERT|UNKNOWN_CA|^UNABLE_TO_/.test(cause.code ?? '');
