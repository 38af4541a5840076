import { ServiceUnavailableError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { Component, ComponentProbe } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { leftoversAt } from '../paths/leftovers.ts';
import { singleUse } from '../restore/single-use.ts';
import { notCapturedBeside } from './beside.ts';
import { prepareCapture } from './capture.ts';
import { RedisConnection, RedisReplyError } from './connection/connection.ts';
import type { RedisOptions } from './connection/options.ts';
import { planRestore } from './plan.ts';
import { defaultPersistence } from './facts.ts';
import { explainReply, ServerInfo } from './connection/server.ts';
import { readSettings } from './connection/told.ts';
import { removeStaged, stageOffline } from './stage.ts';
import { FileSwap } from './swap.ts';
import { verifyLive } from './verify.ts';

export type { RedisOptions } from './connection/options.ts';

/**
 * Redis or Valkey. Captured over the wire as a replica would, with no need for its files; restored offline into its
 * data directory. A user with a password needs `+ping +info +psync +replconf`, and `+config|get` to learn the
 * server's settings, `+acl|list` to capture its users.
 */
export function createRedisComponent(options: RedisOptions): Component {
  const { name, service } = options;
  return {
    name,
    kind: 'redis',
    service,
    probe: (ctx) => probe(options, ctx),
    leftOut: (ctx) => notCapturedBeside(options, ctx),
    leftovers: () => leftoversAt(options.dataDir === undefined ? [] : [options.dataDir]),
    ready: (ctx) => ready(options, ctx),
    prepare: (ctx) => prepareCapture(options, ctx),
    planRestore: async (from, restore, ctx) =>
      singleUse(await planRestore(options, from, restore, ctx), (...stage) =>
        stageOffline(options, ...stage),
      ),
    removeStaged: (restoreId) => removeStaged(options, restoreId),
    generation: (record) => FileSwap.from(record),
    verify: (from, ctx) => verifyLive(options, from, ctx),
  };
}

async function probe(options: RedisOptions, ctx: OperationContext): Promise<ComponentProbe> {
  await using connection = await RedisConnection.open(options, ctx.signal);
  try {
    const info = await ServerInfo.read(connection, ctx.signal);
    const keys = info.databases.reduce((sum, database) => sum + database.keys, 0);
    const warnings: string[] = [];
    if (info.role === 'slave') warnings.push(`${options.name} is a replica`);
    if (info.text('rdb_last_bgsave_status') === 'err')
      warnings.push(`The last save of ${options.name} failed`);
    if (options.dataDir === undefined) {
      warnings.push(`${options.name} has no data_dir: it can be captured but not restored`);
    }
    const told = await readSettings(connection, info, options.dataDir, ctx.signal);
    if (told.by === 'nobody')
      warnings.push(
        `${options.name} hides its settings: grant +config|get, or let tars read its redis.conf. If a restore finds no other file name, it uses ${defaultPersistence.dbFilename}`,
      );
    const { product, version } = info.server;
    return {
      serverVersion: `${product} ${version}`,
      sizeBytes: info.number('used_memory'),
      summary: `${counted(keys, 'key')} in ${counted(info.databases.length, 'database')}`,
      warnings,
    };
  } catch (error) {
    throw explainReply(error, `Cannot probe ${options.name}`);
  }
}

/** PING answers with an error while the server loads, and when it refuses writes because it cannot save. */
async function ready(options: RedisOptions, ctx: OperationContext): Promise<void> {
  await using connection = await RedisConnection.open(options, ctx.signal);
  try {
    await connection.command(['PING'], ctx.signal);
  } catch (error) {
    if (!(error instanceof RedisReplyError)) throw error;
    throw new ServiceUnavailableError(`${options.name} is not ready: ${error.message}`, {
      hint: 'Wait until it has loaded its data, or fix what its log reports.',
      cause: error,
    });
  }
}
