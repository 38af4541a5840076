import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { NotCaptured } from '../../model/manifest.ts';
import type { OperationContext } from '../../ports/context.ts';
import { RedisConnection, RedisReplyError } from './connection/connection.ts';
import type { RedisOptions } from './connection/options.ts';
import { ServerInfo } from './connection/server.ts';
import { persistenceOf, readSettings, type ToldSettings } from './connection/told.ts';

/** The users of a server that keeps them in a file of its own. */
export interface Users {
  readonly file: string;
  /** Lines of that file, with hashes of passwords; undefined when we may not ask for them. */
  readonly lines: readonly string[] | undefined;
}

/** Undefined for a server whose users are in its redis.conf, or that does not tell. */
export async function readUsers(
  connection: RedisConnection,
  told: ToldSettings,
  signal: AbortSignal,
): Promise<Users | undefined> {
  const file = told.get('aclfile') ?? '';
  if (file === '') return undefined;
  try {
    const reply = await connection.command(['ACL', 'LIST'], signal);
    const lines = Array.isArray(reply) ? (reply as readonly unknown[]).map(String) : [];
    // A name that is not UTF-8 would come back as another one.
    return { file, lines: lines.some((line) => line.includes('\ufffd')) ? undefined : lines };
  } catch (error) {
    if (error instanceof RedisReplyError) return { file, lines: undefined };
    throw error;
  }
}

/** What belongs to the server and is not captured: users we may not read, and files it did not write itself. */
export async function notCapturedBeside(
  options: RedisOptions,
  ctx: OperationContext,
): Promise<readonly NotCaptured[]> {
  await using connection = await RedisConnection.open(options, ctx.signal);
  const { name, dataDir } = options;
  const info = await ServerInfo.read(connection, ctx.signal);
  const told = await readSettings(connection, info, dataDir, ctx.signal);
  const users = await readUsers(connection, told, ctx.signal);
  const unread =
    users !== undefined && users.lines === undefined
      ? [
          {
            subject: `${name}: ${users.file}`,
            reason: 'its users, which tars may not list: grant +acl|list',
          },
        ]
      : [];
  if (dataDir === undefined || told.by === 'nobody') return unread;
  const { dbFilename, appendDirName, appendFilename } = persistenceOf(told, info);
  const own = new Set([dbFilename, appendDirName, appendFilename, basename(users?.file ?? '')]);
  const strays = (await readdir(dataDir, { withFileTypes: true }).catch(() => [])).filter(
    (entry) => (entry.isFile() || entry.isDirectory()) && !own.has(entry.name) && !passing.test(entry.name),
  );
  return [
    ...unread,
    ...strays.map((entry) => ({
      subject: `${name}: ${join(dataDir, entry.name)}`,
      reason: 'it lies beside the data and is not part of it; list it under files: to capture it',
    })),
  ];
}

/** Files that the server creates and removes itself. */
const passing = /^(temp-|\.tars-|lost\+found$)|\.(log|pid)$/;
