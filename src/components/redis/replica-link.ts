import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { ServiceUnavailableError, TarsError, toTarsError } from '../../model/errors.ts';
import { openScratch } from '../../disk/run-scratch.ts';
import type { OperationContext } from '../../ports/context.ts';
import { requireSpace } from '../paths/file-bytes.ts';
import { RedisConnection, RedisReplyError, type RedisAddress } from './connection/connection.ts';
import { ServerInfo, waitIdle } from './connection/server.ts';
import { setting } from './connection/told.ts';

/** An RDB of the server on our disk. Disposing removes it. */
export interface SpooledRdb extends AsyncDisposable {
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * A connection that will ask the server for its whole content as a replica does, and for nothing after that.
 *
 * A replica that does not announce `capa eof` makes the server fork at once and save to its disk, whatever
 * `repl-diskless-sync` says. With `capa eof` and diskless replication nothing touches the server's disk, but the fork
 * waits `repl-diskless-sync-delay` seconds for other replicas (`syncCommand` in `src/replication.c`). So the
 * diskless way is taken when there is no delay, or when the server's last save to disk failed.
 */
export class ReplicaLink implements AsyncDisposable {
  readonly #connection: RedisConnection;
  readonly #address: RedisAddress;
  readonly #scratchDir: string;
  /** As it was when everything was ready. */
  readonly info: ServerInfo;
  /** True when {@link fix} returns only after a delay of seconds. */
  readonly delayed: boolean;

  private constructor(
    connection: RedisConnection,
    address: RedisAddress,
    scratchDir: string,
    info: ServerInfo,
    delayed: boolean,
  ) {
    this.#connection = connection;
    this.#address = address;
    this.#scratchDir = scratchDir;
    this.info = info;
    this.delayed = delayed;
  }

  /** Connects, agrees on how the RDB is sent, and waits until the server can fork. */
  static async open(address: RedisAddress, scratchDir: string, ctx: OperationContext): Promise<ReplicaLink> {
    const connection = await RedisConnection.open(address, ctx.signal);
    try {
      const info = await waitIdle(connection, ctx);
      const diskless = (await setting(connection, 'repl-diskless-sync', ctx.signal)) === 'yes';
      const delay = await setting(connection, 'repl-diskless-sync-delay', ctx.signal);
      const diskFailed = info.text('rdb_last_bgsave_status') === 'err';
      const overSocket = diskless && (delay === '0' || diskFailed);
      if (overSocket) await connection.command(['REPLCONF', 'capa', 'eof'], ctx.signal);
      // Without it the writes after the fork would follow the RDB. Servers before 6.2 do not know it.
      await ignoringUnknown(connection.command(['REPLCONF', 'rdb-only', '1'], ctx.signal));
      // Valkey 9 writes its own format only to replicas that say they read it.
      await ignoringUnknown(connection.command(['REPLCONF', 'version', info.server.version], ctx.signal));
      return new ReplicaLink(connection, address, scratchDir, info, overSocket && delay !== '0');
    } catch (error) {
      await connection[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The connection, for further questions before {@link fix}. */
  get connection(): RedisConnection {
    return this.#connection;
  }

  /**
   * Makes the server fork; its content is that of this moment.
   * @throws TarsError `capture-failed` when it would hand out an older save that another replica waits for
   */
  async fix(signal: AbortSignal): Promise<void> {
    const offset = /master_repl_offset:(\d+)/.exec(
      await this.#connection.text(['INFO', 'replication'], signal),
    )?.[1];
    const fixedAt = await this.#connection.fullResync(signal);
    // A server attaches us to a save that runs for another replica; its state is then older than our question.
    if (offset !== undefined && fixedAt < BigInt(offset)) {
      throw new TarsError('capture-failed', 'Redis offered a save it had begun earlier for another replica', {
        hint: 'Try again when its replicas are connected: INFO replication.',
      });
    }
  }

  /**
   * Receives the RDB into a file of mode 0600 in the scratch directory at full speed, then closes the connection.
   * @throws TarsError `capture-failed` when the server could not save
   */
  async spool(ctx: OperationContext): Promise<SpooledRdb> {
    const scratch = await openScratch(this.#scratchDir, 'redis');
    const path = join(scratch.path, 'dump.rdb');
    try {
      const sizeBytes = await this.#receiveInto(path, ctx);
      return { path, sizeBytes, [Symbol.asyncDispose]: () => scratch[Symbol.asyncDispose]() };
    } catch (error) {
      await scratch[Symbol.asyncDispose]();
      if (error instanceof ServiceUnavailableError) throw await this.#whyNoRdb(error, ctx.signal);
      if (error instanceof TarsError || error instanceof RedisReplyError) throw error;
      throw toTarsError(error, `Cannot spool the RDB to ${path}`);
    } finally {
      await this[Symbol.asyncDispose]();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#connection[Symbol.asyncDispose]();
  }

  /** A server whose save failed just closes the connection. */
  async #whyNoRdb(error: ServiceUnavailableError, signal: AbortSignal): Promise<TarsError> {
    await using connection = await RedisConnection.open(this.#address, signal);
    const info = await ServerInfo.read(connection, signal);
    if (info.text('rdb_last_bgsave_status') !== 'err') return error;
    return new TarsError('capture-failed', 'Redis could not save to its disk', {
      hint: 'Read its log, and free space in its dir. With repl-diskless-sync yes, the next capture does not need its disk.',
      cause: error,
    });
  }

  async #receiveInto(path: string, ctx: OperationContext): Promise<number> {
    const rdb = await this.#connection.receiveRdb(ctx.signal);
    if (rdb.sizeBytes !== undefined) await requireSpace(this.#scratchDir, rdb.sizeBytes, 'the RDB of Redis');
    const file = await open(path, 'wx', 0o600);
    try {
      let sizeBytes = 0;
      for await (const piece of rdb.bytes) {
        await file.writeFile(piece);
        sizeBytes += piece.length;
      }
      return sizeBytes;
    } finally {
      await file.close();
    }
  }
}

async function ignoringUnknown(command: Promise<unknown>): Promise<void> {
  try {
    await command;
  } catch (error) {
    if (!(error instanceof RedisReplyError) || error.prefix !== 'ERR') throw error;
  }
}
