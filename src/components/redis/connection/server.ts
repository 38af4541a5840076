import { formatMs } from '../../../model/duration.ts';
import { ServiceUnavailableError, TarsError } from '../../../model/errors.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { RedisReplyError, type RedisConnection } from './connection.ts';
import type { ServerVersion } from './versions.ts';

/** `INFO` as a map (https://redis.io/docs/latest/commands/info/). */
export class ServerInfo {
  readonly #fields: ReadonlyMap<string, string>;

  private constructor(fields: ReadonlyMap<string, string>) {
    this.#fields = fields;
  }

  static async read(connection: RedisConnection, signal: AbortSignal): Promise<ServerInfo> {
    const text = await connection.text(['INFO'], signal);
    const fields = new Map<string, string>();
    for (const line of text.split('\r\n')) {
      const colon = line.indexOf(':');
      if (colon > 0 && !line.startsWith('#')) fields.set(line.slice(0, colon), line.slice(colon + 1));
    }
    return new ServerInfo(fields);
  }

  get server(): ServerVersion {
    const valkey = this.#fields.get('valkey_version');
    return valkey === undefined
      ? { product: 'redis', version: this.#fields.get('redis_version') ?? '0.0.0' }
      : { product: 'valkey', version: valkey };
  }

  get role(): string {
    return this.#fields.get('role') ?? 'unknown';
  }

  flag(name: string): boolean {
    return this.#fields.get(name) === '1';
  }

  text(name: string): string | undefined {
    return this.#fields.get(name);
  }

  number(name: string): number {
    return Number(this.#fields.get(name) ?? 0);
  }

  get replicationOffset(): bigint {
    return BigInt(this.#fields.get('master_repl_offset') ?? '0');
  }

  /** A child process writes an RDB or rewrites the append-only file, or is about to. */
  get busy(): boolean {
    return ['rdb_bgsave_in_progress', 'aof_rewrite_in_progress', 'aof_rewrite_scheduled'].some((name) =>
      this.flag(name),
    );
  }

  /** Keys by database, from the keyspace section. */
  get databases(): readonly { readonly db: number; readonly keys: number }[] {
    return [...this.#fields].flatMap(([name, value]) => {
      const db = /^db(\d+)$/.exec(name)?.[1];
      const keys = /^keys=(\d+)/.exec(value)?.[1];
      return db === undefined || keys === undefined ? [] : [{ db: Number(db), keys: Number(keys) }];
    });
  }
}

const idleTimeoutMs = 15 * 60_000;
const idlePollMs = 100;

/**
 * Waits until no child process of the server saves or rewrites: while one does, another cannot fork.
 * @throws TarsError `timeout` after a quarter of an hour
 */
export async function waitIdle(connection: RedisConnection, ctx: OperationContext): Promise<ServerInfo> {
  const deadlineMs = ctx.clock.monotonicMs() + idleTimeoutMs;
  for (let told = false; ;) {
    const info = await ServerInfo.read(connection, ctx.signal);
    if (!info.busy) return info;
    if (!told) ctx.log.info('Waiting for Redis to finish a save or rewrite');
    told = true;
    if (ctx.clock.monotonicMs() > deadlineMs) {
      throw new TarsError(
        'timeout',
        `Redis has been saving, or rewriting its log, for ${formatMs(idleTimeoutMs)}, and cannot begin another save meanwhile`,
        {
          hint: 'Read the log of Redis, and look for a slow or full disk. Run this again once INFO persistence shows rdb_bgsave_in_progress:0 and aof_rewrite_in_progress:0.',
        },
      );
    }
    await ctx.clock.sleep(idlePollMs, ctx.signal);
  }
}

/** What each refusal of the server means here. `what` is a clause such as `Cannot capture redis`. */
export function explainReply(error: unknown, what: string): unknown {
  if (!(error instanceof RedisReplyError)) return error;
  const message = `${what}: ${error.message}`;
  switch (error.prefix) {
    case 'NOPERM':
      return new TarsError('access-denied', message, {
        hint: 'Grant the user +ping +info +psync +replconf (and +config|get, to learn its settings): ACL SETUSER.',
        cause: error,
      });
    case 'LOADING':
    case 'MISCONF':
    case 'MASTERDOWN':
    case 'NOMASTERLINK':
      return new ServiceUnavailableError(message, {
        hint: 'Wait until it has loaded its data, or fix what its log reports, and try again.',
        cause: error,
      });
    default:
      return new TarsError('capture-failed', message, {
        hint: /unknown command/.test(error.message)
          ? 'redis.conf renames or disables it (rename-command). Remove that line. To keep the command from other users, use an ACL.'
          : 'Read the log of the server.',
        cause: error,
      });
  }
}
