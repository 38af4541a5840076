import type { Finding } from '../../model/finding.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Bytes } from '../../ports/artifacts.ts';
import { fileBytes } from '../paths/file-bytes.ts';
import { RedisConnection } from './connection/connection.ts';
import { compareContent, notCompared, readContent } from './content.ts';
import { factsOf } from './facts.ts';
import type { RedisOptions } from './connection/options.ts';
import { ReplicaLink, type SpooledRdb } from './replica-link.ts';
import { explainReply, ServerInfo } from './connection/server.ts';

/**
 * Takes a fresh RDB of the live server and compares all of it with what was captured: every key's type, value and
 * expiry, by digests. What has expired since, by the server's clock, or goes within the same interval, is left out.
 */
export async function verifyLive(
  options: RedisOptions,
  from: ComponentManifest,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const { content: expected, unverified = '' } = factsOf(from);
  await using spooled = await takeRdb(options, ctx);
  const open = (): Bytes => fileBytes(spooled.path, ctx.signal);
  const { content, unread = '' } = await readContent(
    open,
    expected?.writtenAtMs,
    `the RDB of ${options.name}`,
  );
  if (expected === undefined) return [notCompared(options.name, unverified)];
  if (content === undefined) return [notCompared(options.name, unread)];
  return compareContent(expected, content, await serverTimeMs(options, ctx), options.name);
}

async function takeRdb(options: RedisOptions, ctx: OperationContext): Promise<SpooledRdb> {
  try {
    await using link = await ReplicaLink.open(options, options.scratchDir, ctx);
    await link.fix(ctx.signal);
    return await link.spool(ctx);
  } catch (error) {
    throw explainReply(error, `Cannot verify ${options.name}`);
  }
}

/** The server's clock, read after its RDB was fixed: what had expired by then is not expected there. */
async function serverTimeMs(options: RedisOptions, ctx: OperationContext): Promise<number> {
  await using connection = await RedisConnection.open(options, ctx.signal);
  const serverMs = (await ServerInfo.read(connection, ctx.signal)).number('server_time_usec') / 1000;
  return serverMs === 0 ? ctx.clock.now().getTime() : serverMs;
}
