import { lstat } from 'node:fs/promises';
import { statIfThere } from '../../disk/is-there.ts';
import { TarsError } from '../../model/errors.ts';
import type { ArtifactSink, Bytes } from '../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { attributesOf, fileBytes } from '../paths/file-bytes.ts';
import { ownAttributes } from '../paths/own-attributes.ts';
import { readUsers, type Users } from './beside.ts';
import { RedisConnection } from './connection/connection.ts';
import { readContent, unseenOf, type RdbContent } from './content.ts';
import { artifactPath, usersPath, type Facts, type Owner, type Persistence } from './facts.ts';
import type { RedisOptions } from './connection/options.ts';
import { ReplicaLink, type SpooledRdb } from './replica-link.ts';
import { explainReply, ServerInfo } from './connection/server.ts';
import { persistenceOf, readSettings } from './connection/told.ts';

/** Opens the replica's connection and everything slow before the mark. */
export async function prepareCapture(options: RedisOptions, ctx: OperationContext): Promise<PreparedCapture> {
  try {
    const link = await ReplicaLink.open(options, options.scratchDir, ctx);
    try {
      const { connection, info } = link;
      const told = await readSettings(connection, info, options.dataDir, ctx.signal);
      warnOfState(options.name, link, ctx);
      return new RedisCapture(options, link, {
        persistence: persistenceOf(told, info),
        directory: await ownerOf(options.dataDir),
        users: await readUsers(connection, told, ctx.signal),
      });
    } catch (error) {
      await link[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    throw explainReply(error, `Cannot capture ${options.name}`);
  }
}

function warnOfState(name: string, { info, delayed }: ReplicaLink, ctx: OperationContext): void {
  if (info.role === 'slave')
    ctx.log.warn(`${name} is a replica: data that its master has not sent yet is missing`);
  if (delayed) {
    ctx.log.warn(
      `${name} failed to save to its disk the last time; tars captures it without that disk, at a separate moment`,
    );
  }
}

function warnOfUnverified(name: string, { content, unread }: RdbContent, { log }: OperationContext): void {
  const kept = 'It is captured completely and restored unchanged';
  if (unread !== undefined) log.warn(`${name} is unverified: ${unread}. ${kept}`);
  const unseen = content === undefined ? undefined : unseenOf(content);
  if (unseen !== undefined) log.warn(`${name} is verified except for ${unseen}. ${kept}`);
}

async function ownerOf(directory: string | undefined): Promise<Owner | undefined> {
  if (directory === undefined) return undefined;
  const stats = await statIfThere(directory);
  if (stats === undefined) return undefined;
  const { uid, gid, mode } = attributesOf(stats);
  return { uid, gid, mode };
}

/** What was learnt before the mark. */
interface CaptureContext {
  readonly persistence: Persistence;
  readonly directory: Owner | undefined;
  readonly users: Users | undefined;
}

class RedisCapture implements PreparedCapture {
  readonly pointInTime: 'cut' | 'own';
  readonly #options: RedisOptions;
  readonly #link: ReplicaLink;
  readonly #context: CaptureContext;
  #spooled: SpooledRdb | undefined;
  #forkMs = 0;
  #fixed = false;

  constructor(options: RedisOptions, link: ReplicaLink, context: CaptureContext) {
    this.#options = options;
    this.#link = link;
    this.#context = context;
    this.pointInTime = link.delayed ? 'own' : 'cut';
  }

  async mark(signal: AbortSignal): Promise<void> {
    if (this.pointInTime === 'cut') await this.#fix(signal);
  }

  async settle(ctx: OperationContext): Promise<void> {
    if (!this.#fixed) await this.#fix(ctx.signal);
    try {
      this.#spooled = await this.#link.spool(ctx);
    } catch (error) {
      throw explainReply(error, `Cannot capture ${this.#options.name}`);
    }
    this.#forkMs = await this.#lastForkMs(ctx.signal);
  }

  async capture(sink: ArtifactSink, ctx: OperationContext): Promise<CaptureReport> {
    const spooled = this.#spooled;
    if (spooled === undefined) throw new TarsError('internal', `${this.#options.name} was not settled`);
    const { name } = this.#options;
    const read = await readContent(
      () => fileBytes(spooled.path, ctx.signal),
      undefined,
      `the RDB of ${name}`,
    );
    warnOfUnverified(name, read, ctx);
    const { end, content, unread } = read;
    const stats = await lstat(spooled.path, { bigint: true });
    await sink.write(artifactPath(name), fileBytes(spooled.path, ctx.signal), {
      attributes: attributesOf(stats),
      chunking: 'stream',
      sizeBytes: spooled.sizeBytes,
      signal: ctx.signal,
    });
    const { product, version } = this.#link.info.server;
    const { persistence, directory } = this.#context;
    const facts: Facts = {
      product,
      role: this.#link.info.role,
      rdb: { magic: end.magic, version: end.version, checksum: end.checksum },
      persistence,
      ...(directory === undefined ? {} : { directory }),
      ...(await this.#captureUsers(sink, ctx)),
      ...(content === undefined ? {} : { content }),
      ...(unread === undefined ? {} : { unverified: unread }),
    };
    return {
      serverVersion: `${product} ${version}`,
      method: 'replication',
      writesBlockedMs: this.#forkMs,
      facts,
    };
  }

  /** They hold hashes of passwords, which an archive in the clear does not get. */
  async #captureUsers(sink: ArtifactSink, ctx: OperationContext): Promise<Pick<Facts, 'users'>> {
    const { users } = this.#context;
    if (users?.lines === undefined) return {};
    const { name } = this.#options;
    if (!sink.encrypted) {
      ctx.log.warn(`The users of ${name} (${users.file}) are left out: the archive is not encrypted`);
      return {};
    }
    const artifact = usersPath(name);
    const body = Buffer.from(users.lines.map((line) => `${line}\n`).join(''));
    await sink.write(artifact, bytesOf(body), {
      attributes: ownAttributes(ctx),
      chunking: 'small',
      sizeBytes: body.length,
      signal: ctx.signal,
    });
    return { users: { file: users.file, artifact } };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link[Symbol.asyncDispose]();
    await this.#spooled?.[Symbol.asyncDispose]();
  }

  async #fix(signal: AbortSignal): Promise<void> {
    try {
      await this.#link.fix(signal);
      this.#fixed = true;
    } catch (error) {
      throw explainReply(error, `Cannot capture ${this.#options.name}`);
    }
  }

  /** The server does nothing else while it forks. */
  async #lastForkMs(signal: AbortSignal): Promise<number> {
    await using connection = await RedisConnection.open(this.#options, signal);
    return (await ServerInfo.read(connection, signal)).number('latest_fork_usec') / 1000;
  }
}

// eslint-disable-next-line @typescript-eslint/require-await
async function* bytesOf(bytes: Uint8Array): Bytes {
  yield bytes;
}
